"""Files as torch saves them, written without torch."""

import io
import pickle
import zipfile

import numpy as np

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
KINDS = {
    "float64": "DoubleStorage",
    "float32": "FloatStorage",
    "float16": "HalfStorage",
    "bfloat16": "BFloat16Storage",
    "int64": "LongStorage",
    "uint8": "ByteStorage",
    "bool": "BoolStorage",
    "complex64": "ComplexFloatStorage",
}


def value(x):
    """The opcodes that put a plain value on the stack."""
    return pickle.dumps(x, protocol=2)[2:-1]


def call(module, name, *arguments):
    """Those of the result of a function."""
    return f"c{module}\n{name}\n(".encode() + b"".join(arguments) + b"tR"


def items(mapping):
    """Those of a dict."""
    return b"}(" + b"".join(value(key) + x for key, x in mapping.items()) + b"u"


def tensor(key, x, *, offset=0, shape=None, strides=None, rest=(), old=False):
    """Those of a tensor, whose storage is all of the array x."""
    kind = f"ctorch\n{KINDS[x.dtype.name]}\n".encode()
    storage = b"(" + value("storage") + kind + value(key) + value("cpu") + value(x.size)
    storage += (b"N" if old else b"") + b"tQ"
    shape = x.shape if shape is None else shape
    strides = tuple(s // x.itemsize for s in x.strides) if strides is None else strides
    more = [value(offset), value(shape), value(strides), value(False)]
    more += [call("collections", "OrderedDict"), *map(value, rest)]
    return call("torch._utils", "_rebuild_tensor_v2", storage, *more)


def archive(content, arrays, **more):
    """The bytes of a file in the present format.

    Args:
      content: opcodes.
      arrays: key -> array of each storage.
      **more: name -> bytes of further entries.
    """
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as out:
        out.writestr("archive/data.pkl", b"\x80\x02" + content + b".")
        out.writestr("archive/version", "3\n")
        for key, x in arrays.items():
            out.writestr(f"archive/data/{key}", x.tobytes())
        for name, data in more.items():
            out.writestr(f"archive/{name}", data)
    return file.getvalue()


def sequence(content, arrays, *, little=True):
    """The bytes of a file in the older format."""
    parts = [pickle.dumps(x, protocol=2) for x in (MAGIC, PROTOCOL, {"little_endian": little})]
    parts += [b"\x80\x02" + content + b".", pickle.dumps(list(arrays), protocol=2)]
    parts += [x.size.to_bytes(8, "little") + x.tobytes() for x in arrays.values()]
    return b"".join(parts)


def state_dict(arrays):
    """The bytes of a state dict, in the present format."""
    arrays = {key: np.ascontiguousarray(x) for key, x in arrays.items()}
    numbered = {key: str(number) for number, key in enumerate(arrays)}
    tensors = {key: tensor(numbered[key], x) for key, x in arrays.items()}
    return archive(items(tensors), {numbered[key]: x for key, x in arrays.items()})
