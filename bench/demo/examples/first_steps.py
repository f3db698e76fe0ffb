# %% [markdown]
# # First steps
#
# Compare three ways of adapting a backbone, look at what they predict, add a method of your own, and read the board.
# Everything runs on a synthetic PTB-XL in two minutes on two cores; its numbers say nothing about ECGs. With the real
# data set, `DATA` is its folder and a backbone starts from published weights instead of random ones.
#
# This notebook and `first_steps.py` have the same cells.

# %%
from dataclasses import dataclass
from pathlib import Path

import bench
from bench.demo.dataset import write_demo
from bench.plugin import Method, Phase, register_method

DATA, RUNS = Path("data/first-steps"), Path("runs/first-steps")
if not DATA.exists():
    write_demo(DATA, 1000, seed=0, rates=(100,))

# %% [markdown]
# ## A run
#
# A method is a name with arguments. `superdiag` is the task with the five diagnostic superclasses. A run that is
# finished is loaded, not repeated.

# %%
result = bench.run(
    method="ft(finetune_epochs=4, finetune_lr=3e-3)", task="superdiag", arch="net1d_mini", data=DATA, runs=RUNS
)
result

# %% [markdown]
# What it predicts: probabilities of each label for each record of fold 9 (selection) and fold 10 (test). And how it
# learnt.

# %%
result.predictions.query("fold == 10").head().round(3)

# %%
axes = result.curves.plot(x="epoch", y=["train_loss", "val_auroc"], marker="o", figsize=(5, 2.5), grid=True)

# %% [markdown]
# ## A method of your own
#
# A method says which parts learn, how fast and for how long. Here the head learns first and the backbone follows at a
# tenth of its rate. A class of a notebook runs in the notebook's process; save it in a file for `bench sweep --plugin`.


# %%
@register_method("slow-backbone")
@dataclass(frozen=True)
class SlowBackbone(Method):
    """A probe of the head, then fine-tuning with a backbone that learns at a fraction of the head's rate."""

    lr: float = 3e-3
    slower: float = 0.1
    epochs: int = 4

    def phases(self, layer_groups):
        return [
            Phase(name="probe", learning_rates={"head": self.lr}, epochs=2),
            Phase(
                name="finetune", learning_rates={"head": self.lr, "backbone": self.lr * self.slower}, epochs=self.epochs
            ),
        ]


# %% [markdown]
# ## A comparison
#
# A sweep runs every method with seeds 0, 1 and 2. With fewer than three runs nobody knows how much training varies.

# %%
methods = ["lp(probe_epochs=4, probe_lr=1e-2)", "ft(finetune_epochs=4, finetune_lr=3e-3)", SlowBackbone(slower=0.3)]
swept = bench.sweep(methods, "superdiag", "net1d_mini", data=DATA, runs=RUNS)
swept

# %% [markdown]
# Rows of the board are means over their runs, with 95 % intervals over patients and runs. Each is compared with `ft`.

# %%
board = bench.leaderboard(RUNS, data=DATA)
board

# %% [markdown]
# Two rows against each other, label by label. A few words of a row's name are enough.

# %%
found = bench.compare("slow-backbone", "lp", runs=RUNS, data=DATA)
found

# %%
found.labels.round(4)

# %% [markdown]
# ## The page
#
# The same as a page with pictures, as the published leaderboards are.

# %%
pages = board.write(RUNS / "leaderboards")
page = next(path for path in pages if path.name == "superdiag.md")
section = page.read_text().partition("\n## ")[2]
print(section.partition("<details>")[0])
