"""Read a run's table of answers: what does the model say now that nobody told it? Usage: 02_read_a_run.py RUN"""

import sys
from pathlib import Path

from spillover.metrics.ranks import questions, rank_table
from spillover.record import ANSWERS, Record, read_table

run = Path(sys.argv[1])
record = Record.read(run)
print(record.details["pack"]["name"], "on", record.settings["model"], "-", record.status)

# One row a question and checkpoint; checkpoint 0 is before training, the last one after it.
asked = questions(rank_table(read_table(run / ANSWERS)))
for checkpoint in (0, asked.checkpoint.max()):
    now = asked.only(checkpoint=checkpoint)
    print(f"checkpoint {checkpoint}: mean rank {now.rank.mean():.2f} over {len(now)} questions")

for subject, given, expected, top in zip(now.subject, now.cluster, now.expected, now.top, strict=True):
    print(f"  {subject} ({given}): {top}" + ("" if top == expected else f", where {expected} would follow"))
