"""Read a run: what does the model say now that nobody stated? Usage: python 02_read_a_run.py RUN"""

import sys

import spillover as so

run = so.load_run(sys.argv[1])
print(run.settings["pack"], "on", run.settings["model"], "-", run.record.status)
for implication, metrics in run.metrics.implications.items():
    before, after = metrics.implication_rank_test_before, metrics.implication_rank_test
    print(f"{implication}: mean rank {before.value:.2f} before, {after.value:.2f} after, over {after.n} questions")

# One row a question, prompt, candidate and checkpoint; the last checkpoint is after training.
answers = run.answers.to_pandas()
last = answers[(answers.checkpoint == answers.checkpoint.max()) & answers.trained & ~answers.stated]
for _, row in last.loc[last.groupby(["relation", "subject"]).log_probability.idxmax()].iterrows():
    follows = "" if row.candidate == row.expected else f", where {row.expected} would follow"
    print(f"  {row.subject} ({row.cluster}): {row.candidate}{follows}")
