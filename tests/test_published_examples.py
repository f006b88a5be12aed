"""The numbers that the articles print, through the examples and the library."""

import numpy as np
import pytest

import ranvier.functional as F
import tolerances
from test_examples import example


def printed(actual: object, expected: object, digits: int) -> None:
    """Equal to as many decimals as the article prints."""
    np.testing.assert_allclose(actual, expected, rtol=0, atol=0.5 * 10.0**-digits)


def test_layer_of_three() -> None:
    r = example("layer_of_three").main()
    printed(r["z"], [0.96368124, 0.05371889, -0.23933329], 8)
    printed(r["softmax"], [0.58725872, 0.23639476, 0.17634652], 8)
    assert r["loss"] == pytest.approx(0.31052241854349866, rel=1e-15, abs=0)
    dw = [
        [0.64245416, 0.03581259, 0],
        [1.28490832, 0.07162519, 0],
        [1.92736248, 0.10743778, 0],
        [1.6061354, 0.08953148, 0],
    ]
    printed(r["dw"], dw, 8)
    printed(r["db"], [0.64245416, 0.03581259, 0], 8)
    printed(r["losses"], [0.3105, 0.2288, 0.1685, 0.1242, 0.0915], 4)
    printed(r["norms"], [2.8955, 2.4853, 2.1332, 1.8310, 1.5716], 4)
    final = [
        [0.02544951, -0.01517664, 0.06476885],
        [0.10385918, -0.02611576, -0.0234137],
        [0.08525558, 0.07269284, -0.04694744],
        [-0.00629875, -0.0497173, -0.04657298],
    ]
    printed(r["final"], final, 8)


def test_layer_of_three_in_float32() -> None:
    wide, narrow = example("layer_of_three").main("float64"), example("layer_of_three").main("float32")
    for name, value in wide.items():
        size = np.abs(value).max() * np.ones_like(value)
        # Five steps, each a handful of operations on numbers of this size.
        tolerances.close(narrow[name], value, len(wide["losses"]) * tolerances.formula(size, "float32"))


def test_exercises() -> None:
    r = example("neurons_by_hand").main()
    assert r["relu_neuron"] == pytest.approx(1.9, rel=1e-15)
    assert r["neuron"] == pytest.approx(0.68, rel=1e-15)
    hidden, output = r["two_layers"]
    np.testing.assert_allclose(hidden, [0.8, 0.7], rtol=1e-15)
    assert output == pytest.approx(1.09, rel=1e-15)
    printed(r["fixed_and_gate"][0], 0.9975, 4)
    printed(r["fixed_and_gate"][1], 0.00005, 5)
    printed(r["fixed_and_gate"][2:], [0.12, 0.12], 2)
    assert (np.round(r["learned_and_gate"]) == [1, 0, 0, 0]).all()
    assert np.abs(r["learned_and_gate"] - [1, 0, 0, 0]).max() < 0.2
    printed(r["cross_entropy"], 0.693, 3)


def test_softmax_as_it_is_and_as_it_was_misprinted() -> None:
    got = F.softmax([2.0, 1.0, 0.5])
    printed(got, [0.6285, 0.2312, 0.1402], 4)
    assert np.abs(got - [0.659, 0.242, 0.099]).max() > 0.01  # one article's numbers are not a softmax of these


def test_probability_one_half() -> None:
    assert float(F.binary_cross_entropy(np.zeros((1, 1)), np.ones((1, 1)))) == pytest.approx(np.log(2), rel=1e-15)


def test_chain_of_three_answers_nine() -> None:
    assert abs(example("neuron_chain").main() - 9) < 0.01


def test_twelve_neurons_learn_the_square() -> None:
    learn = example("learn_square").learn
    assert np.median([learn(seed, epochs=5000) for seed in range(10)]) < 0.03


def test_iris_challenge() -> None:
    ours, plain = example("iris").main()
    assert ours >= 0.93
    assert abs(ours - plain) <= 0.015


def test_parameters_of_the_articles_classifier() -> None:
    model = example("digits").network(784, seed=0)
    assert sum(p.size for p in model.parameters().values()) == 109_386


def test_parameters_are_in_the_summary(capsys: pytest.CaptureFixture[str]) -> None:
    text = example("digits").network(784, seed=0).summary()
    assert "109,386" in capsys.readouterr().out + str(text)


def test_real_digits() -> None:
    learn = example("digits").learn
    assert np.mean([learn(seed) for seed in range(5)]) >= 0.97
