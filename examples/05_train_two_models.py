"""Train the factorised and the merged model on the same facts, and ask both what nobody stated.

    python examples/05_train_two_models.py

Six classes; in each, a fact and its implication are stated of one subject, the fact alone of three. Both models read
with equal attention and learn every stated row by normalised gradient descent. Takes a few seconds.
"""

import numpy as np

from spillover.theory import Model, Probe, Recipe, Task, train

task = Task(classes=6, train=1, test=3, noise_places=0)
recipe = Recipe("normalised-gradient-descent", rate=0.1, batch=0, steps=800)
seeds = (0, 1, 2)

print(f"loss of a uniform guess among the implied answers: {np.log(task.classes):.2f}\n")
print(f"{'model':12s}{'stated loss':>13s}{'unstated loss':>15s}{'to nuclear':>12s}{'to Frobenius':>14s}{'margin':>9s}")
for parameters in ("factorised", "merged"):
    models = [Model(parameters, key_query="fixed", scale=0.1, seed=seed) for seed in seeds]
    # The probe measures at the steps of the schedule and changes nothing about the training.
    trained = train(task, models, recipe, measure=Probe(), schedule=[recipe.steps])
    found = {name: np.mean(values) for name, values in trained.history[-1].items()}
    print(
        f"{parameters:12s}{found['train_loss']:13.4f}{found['implication_loss_among']:15.3f}"
        f"{found['cosine_to_nuclear']:12.3f}{found['cosine_to_frobenius']:14.3f}{found['margin_ratio_test']:9.3f}"
    )
