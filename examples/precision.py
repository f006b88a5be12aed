"""Does a network learn as well with reduced products? Loss and accuracy at each precision, and a plot of the losses.

Seed and batches are the same at each. What the machine has no unit for runs as "highest": its loss differs by 0.
"""

from dataclasses import dataclass

import numpy as np
from sklearn.datasets import load_digits, load_iris
from sklearn.model_selection import train_test_split

import ranvier as rv

COLOURS = {"highest": "#c8c8c8", "bf16x6": "#1b7f5c", "high": "#2166ac", "medium": "#c2571a"}


@dataclass
class Task:
    name: str
    x: np.ndarray
    y: np.ndarray
    hidden: tuple[int, int]
    batch: int


# Wide enough, with large enough batches, that the reduced products are used; and the articles' network for digits.
TASKS = [
    Task("digits, wide", *load_digits(return_X_y=True), (512, 512), 256),
    Task("digits", *load_digits(return_X_y=True), (128, 64), 128),
    Task("Iris", *load_iris(return_X_y=True), (512, 512), 120),
]


def learn(task: Task, precision: str, steps: int, seed: int) -> tuple[np.ndarray, float, int]:
    """The loss before each step, the accuracy on the 20 % of the rows kept apart, the number of reduced products."""
    x = (task.x - task.x.mean()) / task.x.std()
    x, x_test, y, y_test = train_test_split(x, task.y, test_size=0.2, stratify=task.y, random_state=seed)
    layers = [*(rv.Dense(width, activation="relu") for width in task.hidden), rv.Dense(int(y.max()) + 1)]
    model = rv.Sequential(layers, input_shape=x.shape[1:], seed=seed)
    model.compile(optimizer=rv.Adam(1e-3), loss="cross_entropy", metrics=["accuracy"], precision=precision)
    rng = np.random.default_rng(seed)
    batches = [rng.choice(len(x), task.batch, replace=False) for _ in range(steps)]
    losses = np.array([model.train_step(x[rows], y[rows]) for rows in batches])
    # Under the plan's title and headings, the path of a reduced product names its unit.
    lines = str(model.plan(batch_size=task.batch)).splitlines()[2:]
    return losses, model.evaluate(x_test, y_test)["accuracy"], sum("AMX" in line or "bf16" in line for line in lines)


def plot(losses: dict[str, np.ndarray], title: str, output: str) -> None:
    import matplotlib.pyplot as plt

    figure, (above, below) = plt.subplots(2, sharex=True, figsize=(8, 7), layout="constrained")
    for index, (precision, values) in enumerate(losses.items()):
        # Wide ones under narrow ones, so that all are seen where they overlay.
        above.semilogy(values, color=COLOURS[precision], linewidth=6 - 1.7 * index, label=precision)
        difference = abs(values / losses["highest"] - 1)
        shown = np.flatnonzero(difference)
        if shown.size:
            below.semilogy(shown, difference[shown], color=COLOURS[precision], linewidth=1)
            below.text(1.01 * len(values), np.median(difference[shown[-50:]]), precision, color=COLOURS[precision])
    above.set(title=title, ylabel="loss of the batch")
    above.legend(frameon=False)
    below.set(xlabel="step", ylabel="relative difference to highest")
    for axes in (above, below):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="#eeeeee")
        axes.set_axisbelow(True)
    figure.savefig(output, dpi=110)
    plt.close(figure)


def main(steps: int = 500, seeds: int = 1, output: str = "precision.png") -> None:
    print(rv.info()["precision"])
    print("task          precision  reduced products  largest difference of loss  test accuracy")
    for task in TASKS:
        runs = {precision: [learn(task, precision, steps, seed) for seed in range(seeds)] for precision in COLOURS}
        losses = {precision: run[0][0] for precision, run in runs.items()}
        for precision, run in runs.items():
            difference = abs(losses[precision] / losses["highest"] - 1).max()
            accuracy = np.mean([accuracy for _, accuracy, _ in run])
            print(f"{task.name:12}  {precision:9}  {run[0][2]:16}  {difference:26.2g}  {accuracy:13.4f}")
        if task is TASKS[0]:
            plot(losses, "digits, 64-512-512-10, batches of 256", output)


if __name__ == "__main__":
    main()
