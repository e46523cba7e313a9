# %% [markdown]
# # Eight steps by hand, and the same by processes
#
# A recurrent network of two time boxes and a head learns to tell 0 from 1. First everything is done here, in plain numpy, one
# array after the other. Then `launch.run` does the same with three processes that send each other messages. At the end every
# weight and every cost of the two is compared with `==`.
#
# Read it from top to bottom in Jupyter or in an editor that knows `# %%`, or run it as it is:
# `python launch/examples/step_by_step.py`. It takes some ten seconds and leaves one run in the folder `runs/`.
#
# Workers are started as `python -m pipeline.worker` and never import this file, so it needs no `if __name__ == "__main__"`.

# %%
import os

# The workers compute with one BLAS thread each; several would add up in another order. It counts before numpy is imported.
os.environ.update(dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

import numpy as np

from launch import resolve, run
from pipeline.data import load

WIDTH, EPOCHS = 128, 25
RATE_BOX, RATE_HEAD, RATE_ORACLE = 1e-2, 1e-3, 1e-4
config = resolve("article", flags={"model.width": WIDTH, "train.epochs": EPOCHS, "run.name": "step-by-step"})

# %% [markdown]
# ## The digits
#
# 10,000 images come with the package. Those of the digits 0 and 1 are put into an order by seed; the first 50 train, the next
# 20 test. A batch is one image, (1, 784), and both boxes read all of it.

# %%
split = load(config.data)
images = split.train_images.astype(np.float32) / 255  # (50, 784), from 0 to 1
digits = split.train_labels.astype(np.float32)  # (50,)
order = np.random.default_rng([0, 0, 1]).permutation(50)  # [seed, epoch, 1]: each epoch has an order of its own
print("images", images.shape, "of the digits", *split.train_labels[order[:10]], "…")

# %% [markdown]
# ## The first weights
#
# Normal numbers by seed, [seed, stage, 0]. The boxes share Wx and Wrec: that makes them one recurrent network, cut along time.
# Each has an oracle of its own, ĝ = h L, which guesses the gradient at its output and starts at zero.

# %%
rng = np.random.default_rng([0, 0, 0])  # stage 0 stands for all boxes that share weights
Wx = (rng.standard_normal((784, WIDTH)) * (3 / 784**0.5)).astype(np.float32)
Wrec = (rng.standard_normal((WIDTH, WIDTH)) * (3 / WIDTH**0.5)).astype(np.float32)
rng = np.random.default_rng([0, 3, 0])  # stage 3 is the head
Wfc = (rng.standard_normal((WIDTH, 1)) * (3 / WIDTH**0.5)).astype(np.float32)
L1, L2 = np.zeros((2, WIDTH, WIDTH), np.float32)
first = {"Wx": Wx.copy(), "Wrec": Wrec.copy(), "Wfc": Wfc.copy()}

# %% [markdown]
# ## One batch, eight steps
#
# **Step 1, box 1: forward.** It starts from h0 = 0, so that Wrec has no part in it.

# %%
x, y = images[order[:1]], digits[order[:1], None]  # (1, 784), (1, 1)
h1 = np.tanh(x @ Wx)  # (1, 128)
first_h1 = h1
print("h1", h1.shape, h1[0, :4])

# %% [markdown]
# **Step 2, box 1: update on oracle 1**, before box 2 has even started. Nobody knows the loss yet. (This first time the oracle
# says zero, and nothing moves.)

# %%
g1 = h1 @ L1  # the synthetic gradient, a guess of ∂loss/∂h1
d1 = g1 * (1 - h1 * h1)
Wx -= RATE_BOX * (x.T @ d1)
print("|g1|", np.linalg.norm(g1))

# %% [markdown]
# **Step 3, box 2: forward**, with the weights as box 1 has just left them.

# %%
h2 = np.tanh(x @ Wx + h1 @ Wrec)
print("h2", h2.shape, h2[0, :4])

# %% [markdown]
# **Step 4, box 2: update on oracle 2**, before the head has started. The gradient goes through Wrec too, to box 1.

# %%
g2 = h2 @ L2
d2 = g2 * (1 - h2 * h2)
t1 = d2 @ Wrec.T  # what box 2 says that the gradient at h1 was: by its own guess, so this target is bootstrapped
Wx -= RATE_BOX * (x.T @ d2)
Wrec -= RATE_BOX * (h1.T @ d2)
print("|g2|", np.linalg.norm(g2), "|t1|", np.linalg.norm(t1))

# %% [markdown]
# **Step 5, box 1: train oracle 1** on what came back from box 2.

# %%
L1 -= RATE_ORACLE * (h1.T @ (h1 @ L1 - t1))

# %% [markdown]
# **Step 6, head: forward**, and for the first time there is a loss: ½ (ŷ − y)².

# %%
y_hat = 0.5 * np.tanh(0.5 * (h2 @ Wfc)) + 0.5  # σ(h2 Wfc), in a form that cannot overflow
cost = float(0.5 * ((y_hat - y) ** 2).sum())
print("ŷ", y_hat.item(), "y", y.item(), "cost", cost)

# %% [markdown]
# **Step 7, head: update** on the true loss; its gradient at h2 goes back, through the Wfc that the forward read.

# %%
d = (y_hat - y) * ((1 - y_hat) * y_hat)  # (1, 1)
t2 = d @ Wfc.T  # the true gradient at h2
Wfc -= RATE_HEAD * (h2.T @ d)

# %% [markdown]
# **Step 8, box 2: train oracle 2** on the true gradient. From the next batch on it has something to say.

# %%
L2 -= RATE_ORACLE * (h2.T @ (h2 @ L2 - t2))
print("|t2|", np.linalg.norm(t2), "|L2|", np.linalg.norm(L2))

# %% [markdown]
# ## The training loop
#
# The same lines for every batch that follows, and after each epoch a look at the 20 test images.

# %%
test_images = split.test_images.astype(np.float32) / 255  # (20, 784)
costs, accuracies = [cost], []
for batch in range(1, EPOCHS * 50):
    epoch, place = divmod(batch, 50)
    if place == 0:
        order = np.random.default_rng([0, epoch, 1]).permutation(50)
    x, y = images[order[place], None], digits[order[place], None, None]

    h1 = np.tanh(x @ Wx)  # 1
    d1 = (h1 @ L1) * (1 - h1 * h1)  # 2
    Wx -= RATE_BOX * (x.T @ d1)
    h2 = np.tanh(x @ Wx + h1 @ Wrec)  # 3
    d2 = (h2 @ L2) * (1 - h2 * h2)  # 4
    t1 = d2 @ Wrec.T
    Wx -= RATE_BOX * (x.T @ d2)
    Wrec -= RATE_BOX * (h1.T @ d2)
    L1 -= RATE_ORACLE * (h1.T @ (h1 @ L1 - t1))  # 5
    y_hat = 0.5 * np.tanh(0.5 * (h2 @ Wfc)) + 0.5  # 6
    costs.append(float(0.5 * ((y_hat - y) ** 2).sum()))
    d = (y_hat - y) * ((1 - y_hat) * y_hat)  # 7
    t2 = d @ Wfc.T
    Wfc -= RATE_HEAD * (h2.T @ d)
    L2 -= RATE_ORACLE * (h2.T @ (h2 @ L2 - t2))  # 8

    if place == 49:
        h = np.tanh(test_images @ Wx)
        h = np.tanh(test_images @ Wx + h @ Wrec)
        accuracies.append(float((((h @ Wfc)[:, 0] > 0) == split.test_labels).mean()))

by_hand = [float(np.mean(costs[n * 50 : n * 50 + 50])) for n in range(EPOCHS)]
for name, now in (("Wx", Wx), ("Wrec", Wrec), ("Wfc", Wfc)):
    print(f"{name} moved by {np.linalg.norm(now - first[name]):.3f}")
print("cost of each epoch", [round(cost, 4) for cost in by_hand], "test images right", f"{accuracies[-1]:.0%}")

# %% [markdown]
# ## The same as processes
#
# Box 1, box 2 and the head are now processes. Each knows its own weights and cuts its own slice of the data; activations,
# gradients and increments of the shared weights travel as messages. `timebox order step-by-step` shows who did what when.

# %%
result = run(config)
result  # in Jupyter: a short table and a link to the report; `result.show()` has the report in the cell

# %%
print("box-1 began with", *result.journal["box-1"][:5], "and box-2 with", *result.journal["box-2"][:5])

# %% [markdown]
# ## Are they equal?
#
# Not nearly: bit for bit. The processes take increments in the order that the lines above have, so that each weight goes
# through the same values. Arrays on the way can be had too: `replay_until` runs the recorded run again as far as one action.

# %%
theirs = result.weights
pairs = {
    "Wx": (Wx, theirs["box-1"]["Wx"]),
    "Wx of box 2": (Wx, theirs["box-2"]["Wx"]),
    "Wrec": (Wrec, theirs["box-2"]["Wrec"]),
    "oracle 1": (L1, theirs["box-1"]["oracle_L"]),
    "oracle 2": (L2, theirs["box-2"]["oracle_L"]),
    "Wfc": (Wfc, theirs["head"]["Wfc"]),
    "h1 of batch 0": (first_h1, result.replay_until("box-1:F0")["activation"]),
    "cost of each epoch": (np.array(by_hand), np.array(result.costs)),
    "test accuracy": (np.array(accuracies), np.array([row["accuracy"] for row in result.metrics])),
}
for name, (ours, other) in pairs.items():
    apart = float(np.abs(ours - other).max())
    print(f"{name:<18}  {'equal' if (ours == other).all() else f'differs by {apart:.1e} at most'}")
    # A kernel that had imported numpy before the first cell has as many BLAS threads as it likes, and other bits.
    assert (ours == other).all(), (
        f"{name} differs by {apart:.1e}: was numpy imported before its threads were set to one?"
    )

# %% [markdown]
# ## A picture of both

# %%
try:
    from matplotlib.figure import Figure
except ImportError:  # it comes with `pip install 'timebox[plot]'`
    most = max(by_hand)
    for epoch, (ours, other) in enumerate(zip(by_hand, result.costs, strict=True), 1):
        print(f"epoch {epoch:2}  by hand {ours:.4f}  processes {other:.4f}  {'█' * round(40 * ours / most)}")
else:
    figure = Figure(figsize=(7, 3.5), layout="constrained")
    axes = figure.subplots()
    axes.plot(range(1, EPOCHS + 1), by_hand, "o", fillstyle="none", markersize=9, label="by hand, in numpy")
    axes.plot(range(1, EPOCHS + 1), result.costs, "x-", label="three processes")
    axes.set(xlabel="epoch", ylabel="mean cost", title="The same training, by hand and as processes")
    axes.legend()
    picture = result.folder / "step_by_step.png"
    figure.savefig(picture, dpi=120)
    print("the picture is in", picture)
    if "get_ipython" in globals():  # in Jupyter
        from IPython.display import Image, display

        display(Image(picture))
