"""Run directories as `fit` leaves them, made by hand in milliseconds: facts to check a report by.

The network is real: two hidden layers of a few nodes, trained by NumPy on the digits, with what a
recording has of it at each moment.
"""

import json

import jax
import numpy as np

import jaxnn

try:
    from jaxnn.pictures.diagram import diagram, to_json
except ImportError:
    diagram = None
from jaxnn.storage import recording

LAYERS = ("hidden_1", "hidden_2", "output")
WIDTHS = (64, 12, 8, 10)
STEPS = 240
MOMENTS = (0, 2, 5, 10, 20, 40, 80, 120, 180, 240)


def digits(out, *, name="digits", config=None, finished=True, steps=STEPS):
    """Writes the directory of a run on the digits, and returns its result."""
    data = jaxnn.datasets.digits()
    inputs, labels = (np.asarray(data[key]) for key in ("inputs", "labels"))
    inputs, labels = inputs.astype(np.float32), labels.astype(np.int32)
    train, test = (inputs[:1400], labels[:1400]), (inputs[1400:], labels[1400:])
    about = _about(inputs.shape[1:])
    rows, result = _train(out, train, test, about, [m for m in MOMENTS if m <= steps])
    result = {
        "experiment": name,
        "steps": rows[-1]["step"],
        "seconds": 1.72,
        "status": "done",
        **result,
    }
    result |= {"form": "looped", "device": "cpu", "jax": "0.10.2"}
    config = {"hidden": [12, 8], "learning_rate": 0.05} if config is None else config
    write(out, config, rows, result if finished else None)
    if not finished:
        (out / "recording" / recording.END).unlink()
    return result


def write(out, config, rows, result=None):
    """Writes the files that every run has."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "config.json").write_text(json.dumps(config))
    (out / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if result is not None:
        (out / "result.json").write_text(json.dumps(result))


def curve(count, *, rise=None, **metrics):
    """Returns rows of metrics that are functions of the place among them, from 0 to 1."""
    return [
        {"step": 10 * (i + 1), "epoch": i + 1.0, "seconds": 0.1 * (i + 1)}
        | {name.replace("__", "/"): of(i / (count - 1)) for name, of in metrics.items()}
        for i in range(count)
    ]


def _about(shape):
    network = jaxnn.serial(
        ("pixels", jaxnn.standardize(4.88, 6.02)), ("layers", jaxnn.mlp(WIDTHS[1:-1], 10))
    )
    drawn = diagram and diagram(network, jax.ShapeDtypeStruct((1, *shape), np.float32))
    sizes = list(zip(WIDTHS[:-1], WIDTHS[1:]))
    rows = [
        {"part": f"layers/{name}", "kind": "linear", "output": [1, wide], "times": 1}
        | {"parameters": (high + 1) * wide, "bytes": 4 * (high + 1) * wide}
        | {"activation_bytes": 4 * wide, "flops": 2 * high * wide}
        for name, (high, wide) in zip(LAYERS, sizes)
    ]
    total = {key: sum(row[key] for row in rows) for key in ("parameters", "bytes", "flops")}
    total |= {"part": "total", "kind": "", "output": [1, 10], "times": 1}
    total["activation_bytes"] = sum(row["activation_bytes"] for row in rows)
    return {
        "format": 1,
        "moments": list(MOMENTS),
        "probe": {"of": "test", "count": 256, "shown": 16},
        "table": {"rows": rows, "total": total},
        "diagram": to_json(drawn) if drawn else None,
        "filters": {"leaf": "layers/hidden_1/weight", "shape": [8, 8, 1], "count": 12},
        "kind": "classification",
        "classes": 10,
        "names": None,
    }


def _train(out, train, test, about, moments):
    draws = np.random.default_rng(0)
    params = {}
    for name, high, wide in zip(LAYERS, WIDTHS[:-1], WIDTHS[1:]):
        params[name] = [draws.normal(size=(high, wide)) * np.sqrt(2 / high), np.zeros(wide)]
    folder = out / recording.FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    (folder / recording.ABOUT).write_text(json.dumps(about))
    probe = tuple(each[:256] for each in test)
    shown = {"inputs": probe[0][:16], "labels": probe[1][:16], "index": np.arange(16)}
    recording.write(folder, recording.PROBE, shown)
    layers = (about["diagram"] or {"layers": []})["layers"]
    nodes = [layer["shown"] for layer in layers] or [range(n) for n in WIDTHS]
    leaves = [layer["leaf"] for layer in layers[1:]] or [f"layers/{name}/weight" for name in LAYERS]
    rows = []
    for step in range(moments[-1] + 1):
        if step in moments:
            recording.write(
                folder, recording.frame_name(step), _frame(params, probe, leaves, nodes)
            )
        if step and step % 20 == 0:
            row = {"step": step, "epoch": round(step * 64 / 1400, 4), "seconds": step * 0.007}
            for part, of in (("train", train), ("test", test)):
                measured = _measured(_forward(params, of[0])[-1], of[1])
                row |= {f"{part}/{key}": value for key, value in measured.items()}
            rows.append(row)
        if step == moments[-1]:
            break
        places = draws.integers(0, len(train[0]), 64)
        for name, grads in _gradients(params, train[0][places], train[1][places]).items():
            for leaf, grad in zip(params[name], grads):
                leaf -= 0.15 * grad
    recording.write(folder, recording.END, _end(params, test))
    return rows, {name: value for name, value in rows[-1].items() if "/" in name}


def _forward(params, inputs):
    values = [(inputs.reshape(len(inputs), -1) - 4.88) / 6.02]
    for name in LAYERS:
        weight, bias = params[name]
        values.append(values[-1] @ weight + bias)
        if name != LAYERS[-1]:
            values[-1] = np.maximum(values[-1], 0)
    return values


def softmax(logits):
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def _losses(logits, labels):
    return -np.log(softmax(logits)[np.arange(len(labels)), labels] + 1e-30)


def _measured(logits, labels):
    right = (logits.argmax(-1) == labels).mean()
    return {"loss": float(_losses(logits, labels).mean()), "accuracy": float(right)}


def _gradients(params, inputs, labels):
    values = _forward(params, inputs)
    back = (softmax(values[-1]) - np.eye(10)[labels]) / len(labels)
    found = {}
    for place in reversed(range(len(LAYERS))):
        found[LAYERS[place]] = [values[place].T @ back, back.sum(0)]
        back = (back @ params[LAYERS[place]][0].T) * (values[place] > 0)
    return found


def _frame(params, probe, leaves, nodes):
    values = _forward(params, probe[0])
    frame = {f"metrics/{k}": np.float32(v) for k, v in _measured(values[-1], probe[1]).items()}
    frame["outputs"] = values[-1][:16].astype(np.float32)
    gradients = _gradients(params, *probe)
    for place, name in enumerate(LAYERS):
        leaf = leaves[place]
        weight, bias = (each.astype(np.float32) for each in params[name])
        before, after = list(nodes[place]), list(nodes[place + 1])
        frame[f"wires/{leaf}"] = weight[np.ix_(before, after)]
        frame[f"biases/{leaf}"] = bias[after]
        frame[f"params/{leaf}"] = weight.ravel()[:1024]
        frame[f"gradients/{leaf}"] = np.float32(np.sqrt(np.mean(gradients[name][0] ** 2)))
        if name != LAYERS[-1]:
            given = values[place + 1]
            frame[f"activations/{name}"] = given.ravel()[:1024].astype(np.float32)
            frame[f"quiet/{name}"] = np.float32((given == 0).all(0).mean())
    frame["filters"] = params["hidden_1"][0].T.reshape(-1, 8, 8).astype(np.float32)
    return frame


def _end(params, test):
    logits = _forward(params, test[0])[-1]
    counts = np.zeros((10, 10), np.int32)
    np.add.at(counts, (test[1], logits.argmax(-1)), 1)
    losses = _losses(logits, test[1])
    chances = np.sort(softmax(logits), -1)
    orders = {
        "worst": np.argsort(-losses),
        "best": np.argsort(losses),
        "uncertain": np.argsort(chances[:, -1] - chances[:, -2]),
    }
    end = {"labels": test[1], "confusion": counts}
    for kind, order in orders.items():
        first = order[:8]
        end |= {f"{kind}/inputs": test[0][first], f"{kind}/labels": test[1][first]}
        end |= {f"{kind}/outputs": logits[first].astype(np.float32)}
        end |= {f"{kind}/loss": losses[first].astype(np.float32), f"{kind}/index": first}
    return end
