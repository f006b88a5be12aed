"""scikit-learn's MLPRegressor and MLPClassifier through `partial_fit`, in float32.

Its squared loss is the sum over a row's outputs, halved, and its gradient is that times `outputs / 2` of ours: the
learning rate of SGD takes the factor back, and Adam, which divides it out, needs it in eps alone. Its Adam also scales
eps by sqrt(1 - beta2^t), which no setting can undo for every step; the first one, which is checked, agrees.
"""

from __future__ import annotations

import math

import numpy as np
import sklearn
from sklearn.neural_network import MLPClassifier, MLPRegressor

from workloads import Array, Unsupported, Workload

VERSIONS = {"scikit-learn": sklearn.__version__}
BETA2, EPS = 0.999, 1e-8


class Runner:
    def __init__(self, workload: Workload, weights: list[Array], threads: int) -> None:
        # `threads` is already in the environment, where the BLAS of NumPy and SciPy reads it.
        if workload.activation == "gelu":
            raise Unsupported("scikit-learn's networks have no GELU")
        if workload.output_activation != "identity":
            raise Unsupported("the outputs of scikit-learn's regressor are always linear")
        self.classifier = workload.loss == "cross_entropy"
        if self.classifier:
            self.unchecked = dict.fromkeys(
                ("output", "output of one row"), "predict_proba gives probabilities; the loss, made of them, is checked"
            )
        outputs = workload.widths[-1]
        factor = 1.0 if self.classifier else outputs / 2  # its gradient / ours
        self.loss_factor = 1.0 if self.classifier else 2.0  # ours / the loss it tells
        self.model = (MLPClassifier if self.classifier else MLPRegressor)(
            hidden_layer_sizes=workload.widths[1:-1],
            activation=workload.activation,
            solver=workload.optimizer,
            alpha=0.0,
            batch_size=workload.batch,
            learning_rate_init=workload.lr / (factor if workload.optimizer == "sgd" else 1.0),
            epsilon=EPS * factor * math.sqrt(1 - BETA2),
            momentum=0.0,
            random_state=0,
        )
        x = np.zeros((workload.batch, workload.widths[0]), np.float32)
        if self.classifier:
            self.model.partial_fit(x, np.zeros(workload.batch, int), classes=np.arange(outputs))
            self.predict = self.model.predict_proba
        else:
            self.model.partial_fit(*self.arrays(x, np.zeros((workload.batch, outputs), np.float32)))
            self.predict = self.model.predict
        # That first fit made the arrays; now our weights, and an optimiser that has not seen a step.
        for ours, theirs in zip(weights, self.weights(), strict=True):
            theirs[:] = ours
        self.model.t_ = 0
        del self.model._optimizer

    def arrays(self, x: Array, y: Array) -> tuple[Array, Array]:
        return x, y[:, 0] if y.shape[1:] == (1,) else y

    def weights(self) -> list[Array]:
        return [part for pair in zip(self.model.coefs_, self.model.intercepts_, strict=True) for part in pair]

    def train_step(self, x: Array, y: Array) -> float:
        """One batch is one epoch of `partial_fit`."""
        return self.loss_factor * self.model.partial_fit(x, y).loss_

    fit = train_step  # it shuffles and cuts the rows into batches itself
