"""Tandem from Python: load a model, run it, build hardware. Needs libtandem.so and nothing else; arrays are numpy's
where numpy is installed, else objects with .shape, .dtype and .tolist().

    import tandem
    m = tandem.load("model.onnx")
    y = m.run(x=images)["logits"]              # f32
    y = m.run(x=images, exact=True)["logits"]  # the one exact meaning of the quantised graph
    m.doctor(target="up5k")["refused"]         # what each engine does with each node
    m.build("design", target="up5k")["ok"]     # verified Verilog in the folder

Errors are tandem.Error with code, message, where, expected, fix.
"""
import array as _array
import ctypes as _c
import json as _json
import os as _os

try:
    import numpy as _np
except ImportError:
    _np = None

__all__ = ["load", "Model", "Array", "Error", "version"]

_CODES = {"f32": "f", "f64": "d", "i8": "b", "u8": "B", "i16": "h", "u16": "H", "i32": "i", "u32": "I", "i64": "q",
          "u64": "Q", "bool": "B"}
_NUMPY = {"f32": "float32", "f64": "float64", "i8": "int8", "u8": "uint8", "i16": "int16", "u16": "uint16",
          "i32": "int32", "u32": "uint32", "i64": "int64", "u64": "uint64", "bool": "bool"}


class _Struct(_c.Structure):
    _fields_ = [("name", _c.c_char_p), ("dtype", _c.c_char_p), ("rank", _c.c_int64),
                ("shape", _c.POINTER(_c.c_int64)), ("data", _c.c_void_p)]


def _open():
    here = _os.path.dirname(_os.path.realpath(__file__))
    places = []
    if _os.environ.get("TANDEM_LIBRARY"):
        places.append(_os.environ["TANDEM_LIBRARY"])
    else:  # PREFIX/lib/python3/dist-packages, PREFIX/share/tandem/python, the source tree
        at = here
        for _ in range(4):
            at = _os.path.dirname(at)
            for folder in ("lib", "lib/" + _os.uname().machine + "-linux-gnu", "build", "."):
                places.append(_os.path.join(at, folder, "libtandem.so"))
    for p in places:
        if _os.path.exists(p):
            return _c.CDLL(p)
    return _c.CDLL("libtandem.so")


_lib = _open()
for _name, _result, _args in (
        ("tandem_version", _c.c_char_p, []), ("tandem_last_error", _c.c_char_p, []),
        ("tandem_load", _c.c_void_p, [_c.c_char_p]), ("tandem_free", None, [_c.c_void_p]),
        ("tandem_describe", _c.c_void_p, [_c.c_void_p]),
        ("tandem_run", _c.c_void_p, [_c.c_void_p, _c.POINTER(_Struct), _c.c_size_t, _c.c_int]),
        ("tandem_result_count", _c.c_size_t, [_c.c_void_p]),
        ("tandem_result_array", _c.POINTER(_Struct), [_c.c_void_p, _c.c_size_t]),
        ("tandem_result_free", None, [_c.c_void_p]),
        ("tandem_doctor", _c.c_void_p, [_c.c_void_p, _c.c_char_p]),
        ("tandem_build", _c.c_void_p, [_c.c_void_p, _c.c_char_p, _c.c_char_p]),
        ("tandem_string_free", None, [_c.c_void_p])):
    _f = getattr(_lib, _name)
    _f.restype, _f.argtypes = _result, _args


class Error(Exception):
    """What Tandem answers. `code` as the exit codes of the command line (1: the answer is no, 2: bad input ...)."""

    def __init__(self, document):
        self.code = document.get("code", 70)
        self.message = document.get("message", "unknown error")
        self.where = document.get("where", "")
        self.expected = document.get("expected", "")
        self.fix = document.get("fix", "")
        super().__init__(document.get("text", self.message))


def _raise():
    text = _lib.tandem_last_error().decode()
    raise Error(_json.loads(text) if text else {})


def _document(pointer):
    if not pointer:
        _raise()
    try:
        return _json.loads(_c.string_at(pointer).decode())
    finally:
        _lib.tandem_string_free(pointer)


def version():
    return _lib.tandem_version().decode()


class Array:
    """A dense array where numpy is missing: shape, dtype ("f32" ...), values (flat), tolist() (nested)."""

    def __init__(self, shape, dtype, values):
        self.shape, self.dtype, self.values = tuple(shape), dtype, values
        n = 1
        for d in self.shape:
            n *= d
        if n != len(values):
            raise ValueError("%d values for the shape %s" % (len(values), self.shape))

    def tolist(self):
        def nest(at, axis):
            if axis == len(self.shape):
                v = self.values[at]
                return bool(v) if self.dtype == "bool" else v
            step = 1
            for d in self.shape[axis + 1:]:
                step *= d
            return [nest(at + i * step, axis + 1) for i in range(self.shape[axis])]
        return nest(0, 0)


def _shape_of(x):
    s = []
    while isinstance(x, (list, tuple)):
        s.append(len(x))
        if not x:
            break
        x = x[0]
    return s


def _flat(x, shape):
    if not shape:
        return [x]
    if not isinstance(x, (list, tuple)) or len(x) != shape[0]:
        raise ValueError("a ragged list is no array")
    r = []
    for i in x:
        r += _flat(i, shape[1:])
    return r


def _pack(value, dtype):
    """(shape, dtype, buffer) of an input; lists take the model's element type."""
    if _np is not None and not isinstance(value, Array):
        a = _np.asarray(value)
        if not isinstance(value, _np.ndarray):
            a = a.astype(_NUMPY[dtype])
        names = {v: k for k, v in _NUMPY.items()}
        if a.dtype.name not in names:
            raise TypeError("no element type for numpy's %s" % a.dtype)
        a = _np.ascontiguousarray(a).reshape(a.shape)
        return list(a.shape), names[a.dtype.name], a, a.ctypes.data
    if not isinstance(value, Array):
        shape = _shape_of(value)
        value = Array(shape, dtype, _flat(value, shape))
    kind = int if _CODES[value.dtype] not in "fd" else float
    a = _array.array(_CODES[value.dtype], [kind(v) for v in value.values])
    return list(value.shape), value.dtype, a, a.buffer_info()[0]


def _unpack(s):
    shape = [s.shape[i] for i in range(s.rank)]
    dtype = s.dtype.decode()
    n = 1
    for d in shape:
        n *= d
    a = _array.array(_CODES[dtype])
    a.frombytes(_c.string_at(s.data, n * a.itemsize) if n else b"")
    if _np is not None:
        return _np.frombuffer(a.tobytes(), dtype=_NUMPY[dtype]).reshape(shape).copy()
    return Array(shape, dtype, a)


class Model:
    def __init__(self, path):
        self._handle = None
        self._handle = _lib.tandem_load(_os.fsencode(path))
        if not self._handle:
            _raise()
        d = _document(_lib.tandem_describe(self._handle))
        self.name, self.inputs, self.outputs, self.nodes = d["name"], d["inputs"], d["outputs"], d["nodes"]

    def __del__(self):
        if getattr(self, "_handle", None):
            _lib.tandem_free(self._handle)
            self._handle = None

    def run(self, inputs=None, exact=False, **named):
        """Outputs by name. Inputs as a dictionary, by keyword, or one array for a model with one input."""
        if inputs is not None and not isinstance(inputs, dict):
            if len(self.inputs) != 1:
                raise ValueError("the model has %d inputs: give a dictionary" % len(self.inputs))
            inputs = {self.inputs[0]["name"]: inputs}
        given = dict(inputs or {}, **named)
        types = {i["name"]: i["dtype"] for i in self.inputs}
        structs = (_Struct * len(given))()
        keep = []
        for s, (name, value) in zip(structs, given.items()):
            shape, dtype, buffer, address = _pack(value, types.get(name, "f32"))
            dims = (_c.c_int64 * max(len(shape), 1))(*shape)
            keep.append((buffer, dims))
            s.name, s.dtype, s.rank, s.shape, s.data = name.encode(), dtype.encode(), len(shape), dims, address
        r = _lib.tandem_run(self._handle, structs, len(given), 1 if exact else 0)
        if not r:
            _raise()
        try:
            out = {}
            for i in range(_lib.tandem_result_count(r)):
                s = _lib.tandem_result_array(r, i).contents
                out[s.name.decode()] = _unpack(s)
            return out
        finally:
            _lib.tandem_result_free(r)

    def doctor(self, **options):
        """As `tandem doctor MODEL --json`: target, input_format."""
        return _document(_lib.tandem_doctor(self._handle, _json.dumps(options).encode()))

    def build(self, out, **options):
        """As `tandem build --json`: target, clock, throughput, input_format, frames, seed, place, verify, overwrite."""
        return _document(_lib.tandem_build(self._handle, _os.fsencode(out), _json.dumps(options).encode()))


def load(path):
    return Model(path)
