#include "tandem/cli/topics.h"

namespace tandem::cli {

std::span<const Topic> topics() {
  static const Topic table[] = {
      {"exit-codes", "What the exit code of a command says",
       R"(0    done
1    the question was answered "no": a mismatch, infeasible, the target too small, a model that cannot
     become hardware, two things that differ. The answer is on stdout or in the message.
2    wrong use, bad input, an unreadable or unwritable path. Nothing was written.
3    a needed external tool is missing. `tandem doctor` names the package.
4    a limit was hit: time, memory, disk; also when stdout cannot be written.
70   a bug of ours. The message names a report file.
130  Ctrl-C.   143  SIGTERM.   What was finished by then is kept.
)", {}},
      {"float-contraction", "A convolution or matrix product of floats cannot become hardware",
       R"(Hardware computes on integer codes. A sum of float products has no result that every machine agrees on:
its value depends on the order of the additions (docs/semantics.md). So a contraction whose varying operand
is a float is refused, while element-wise float nodes before the first and after the last quantiser stay on
the host.

Remedies: where only the input lacks a quantiser, give it a format: --input-format uint8/255 (codes 0..255
that stand for 0..1) or int8/127. Where the whole model is in float, quantise it, for example by training
with a quantisation recipe (`tandem train`). `tandem doctor MODEL` names every such node and where its floats
come from.
)", {"works on floats", "has no quantised input", "contraction of floats"}},
      {"target-too-small", "The design does not fit the device",
       R"(The smallest folding (PE = SIMD = 1) of a layer still needs its weights and thresholds in memory and a line
buffer for its window. When that exceeds a budget of the device, the message names the quantity, the budget
and the layer that takes most.

Remedies: fewer bits in that layer (thresholds grow with 2^bits of its output), fewer channels, or a larger
device (`tandem targets`). A lower --throughput makes a design smaller only down to that point.
`tandem doctor MODEL --target T` estimates this before anything is built.
)", {"does not fit", "when fully folded", "too small"}},
      {"one-input", "Streaming hardware has one input and one output",
       R"(A design is a pipeline of streams: one frame of integer codes goes in, one comes out. A model with several
inputs or outputs is refused.

Remedies: join the inputs on the host into one tensor, cut the model into parts that have one of each, or
keep further outputs (a Softmax, a copy of an intermediate value) out of the file that is built.
)", {"takes one input", "has one output", "nothing to build"}},
      {"no-stage", "An operator that no hardware stage computes",
       R"(Each step of the exact program becomes a stage: dense layers and convolutions with constant weights, depthwise
convolution, pooling, requantisers, sums of two branches, arg max. What has no stage is refused by name
with the reason; `tandem ops NAME` shows what each engine does with an operator.

Remedies are in the message. Common ones: remove a Transpose between convolutions, add two branches instead
of concatenating them, keep products of two varying values outside, end the model before a state.
)", {"the streaming hardware cannot run"}},
      {"integer-grid", "Scales that have no common grid of few bits",
       R"(An exact value is held as integers N with x = s*N + b. Where two values meet (an addition, a contraction over
channels with different scales), both must lie on one grid. Scales such as 0.1 and 0.07 have a common grid
so fine that the integers need more bits than an engine has: 128 for exact execution, 64 for hardware.

Remedies: put a quantiser on one branch, use powers of two as scales, or use the same scale on both
branches of an addition.
)", {"common grid", "bits, 64 are allowed", "bits, 128 are allowed", "more than 64 bits"}},
      {"unknown-operator", "The file names an operator that Tandem does not define",
       R"(An operator is defined once, with its meaning on exact numbers; what is not defined is refused rather than
guessed. `tandem ops` lists them all, `tandem doctor MODEL` names every unknown node of a file, not only
the first.

Remedies: export again with simpler operators (many exporters decompose activations), simplify the graph with
the tool that made it, or add the operator: one literal in src/tandem/ir/ops.
)", {"is not known"}},
      {"models", "Which model files are read",
       R"(ONNX and QONNX (opsets 1 to 24), TFLite, Keras (.keras, .h5, or JSON with .h5) and llama2.c checkpoints, told
apart by their content. Refused by name: sparse tensors, sequences, maps, strings. Weights in other files are
read only from regular files below the folder of the model, reached without symbolic links: a model file that
someone sent must not read other files. `--weights random` stands in for weights that did not come with a
model.

A truncated or inconsistent file is answered with the node or tensor at which it breaks. A PyTorch
checkpoint (.pt) is a program and is never read: export it with torch.onnx.export.
)", {"a field of", "ends too early", "external data", "is sparse", "is no tensor"}},
      {"arrays", "Which arrays are read",
       R"(.npz with arrays under the names of the model's inputs, or a single array (.npz or .npy) for a model with one
input. Element type and shape must be those of the model; a free extent such as `batch` takes that of the
array. Object arrays are refused (they are Python programs), and so is an archive that would unpack to more
than --memory allows.

In Python: numpy.savez("x.npz", x=x.astype("float32")).
)", {"element type", "the data's samples have shape", "is no zip archive", "npz", "npy"}},
      {"fidelity", "Where a number comes from",
       R"(estimated      closed form, fitted where it says so
rtl-simulated  Verilator ran the Verilog
synthesised    yosys mapped it
placed         nextpnr placed and routed it; Fmax is from its timing analysis
executed       accuracy on stated data, by the exact evaluator
measured       on this machine
published      a figure of somebody else, with the source

Numbers of different fidelity are never added or ranked against each other without saying so.
)", {}},
      {"host-nodes", "What stays on the host",
       R"(Nodes before the first quantiser and after the last exact value compute in f32 on the host: the input's
quantiser itself (the driver sends codes), Softmax at the end, a scale of the logits. `tandem build` lists
them in driver.md and in its summary; `tandem doctor MODEL` marks them `host`.

A float node between two parts of hardware is refused: its result would have to travel back.
)", {"quantises a float"}},
      {"mismatch", "The Verilog differs from the exact result",
       R"(Every output word of the simulation is compared with the exact result. A difference is a defect of Tandem or an
edit of the Verilog, never a matter of tolerance. The message names frame, element and both values.

`tandem verify FOLDER --seed N` repeats the comparison with other data. If you did not edit the files,
please report it with the folder.
)", {"differs from the exact result"}},
      {"missing-tool", "An external program is not installed",
       R"(yosys, nextpnr-ice40, icepack, Verilator, Icarus, a C++ compiler and bubblewrap are used where a command needs them.
`tandem doctor` lists which are here, their versions, and the Debian package that brings a missing one.
The learning library (libtandem_learn.so) is needed by `train` and `demo` only; it needs libtorch.
)", {"is not installed", "learning library cannot be opened"}},
      {"limits", "A limit was hit",
       R"(Readers of foreign files count before they allocate: a file of 1 MB can unpack to 1 GB. --memory 4G sets the most a
reader may take, default 8G. External programs run under limits of time, memory and output.

Exit code 4 also says that stdout or the disk could not be written; nothing half-written is left behind.
)", {"memory", "stdout cannot be written", "no space"}},
      {"overwriting", "Existing files are kept",
       R"(Results are written under a temporary name and renamed: whole or not at all. What exists is refused before the
work starts; --force overwrites it. Nothing is written outside --out and the cache
($XDG_CACHE_HOME/tandem, else ~/.cache/tandem).
)", {"--force"}},
      {"bugs", "Exit code 70",
       R"(An invariant inside Tandem broke: a defect of ours, whatever the input was. The message names a report file with the
command and the versions. Please report it with the input, if you may share it (SECURITY.md says how to
report in private).
)", {"internal error", "unexpected:"}},
  };
  return table;
}

const Topic* topic_of(const Error& e) {
  for (const Topic& t : topics())
    for (std::string_view p : t.phrases)
      if (e.message().find(p) != std::string::npos) return &t;
  for (const Topic& t : topics())  // what the remedy speaks of
    for (std::string_view p : t.phrases)
      if (p.starts_with("--") && e.fix().find(p) != std::string::npos) return &t;
  return nullptr;
}

}  // namespace tandem::cli
