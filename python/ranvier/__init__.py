"""ranvier: neural networks described once in Python, trained and run by native code.

>>> import numpy as np
>>> import ranvier as rv
>>> model = rv.Sequential([rv.Dense(16, activation="relu"), rv.Dense(3)], input_shape=(4,), seed=0)
>>> model.compile(optimizer=rv.Adam(1e-2), loss=rv.CrossEntropy(), metrics=["accuracy"])
>>> history = model.fit(np.eye(4), [0, 1, 2, 0], epochs=100)
>>> model.predict(np.eye(4)).argmax(axis=1)
array([0, 1, 2, 0])
"""

from ranvier import functional, initializers
from ranvier._core import __version__, num_threads, set_num_threads
from ranvier.callbacks import Callback, EarlyStopping, ModelCheckpoint, ReduceLROnPlateau
from ranvier.checkpoint import load
from ranvier.info import info
from ranvier.layers import Activation, Dense, Dropout, Flatten, Layer, Reshape
from ranvier.losses import BinaryCrossEntropy, CrossEntropy, Huber, Loss, MeanAbsoluteError, MeanSquaredError
from ranvier.model import Input, Model
from ranvier.optim import SGD, AdaGrad, Adam, AdamW, Optimizer, RMSprop
from ranvier.sequential import Sequential
from ranvier.tensor import Tensor
from ranvier.training import History

__all__ = [
    "SGD",
    "Activation",
    "AdaGrad",
    "Adam",
    "AdamW",
    "BinaryCrossEntropy",
    "Callback",
    "CrossEntropy",
    "Dense",
    "Dropout",
    "EarlyStopping",
    "Flatten",
    "History",
    "Huber",
    "Input",
    "Layer",
    "Loss",
    "MeanAbsoluteError",
    "MeanSquaredError",
    "Model",
    "ModelCheckpoint",
    "Optimizer",
    "RMSprop",
    "ReduceLROnPlateau",
    "Reshape",
    "Sequential",
    "Tensor",
    "__version__",
    "functional",
    "info",
    "initializers",
    "load",
    "num_threads",
    "set_num_threads",
]
