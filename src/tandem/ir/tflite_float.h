// TensorFlow Lite models as ONNX operators on real numbers.
//
// Float models (weights stored as f16 or as quantised integers are widened) become plain ONNX. Quantised models can be
// taken the same way with a QONNX Quant behind each operator, so that Tandem's exact engines and hardware read them; what
// TensorFlow Lite itself computes, bit for bit, is tflite_graph() in ir/tflite.h, and differs where its kernels round twice.
// Images stay channels last at the ports (ir/channels_last.h). State (LSTM) is fresh at every run.
#pragma once
#include "tandem/ir/graph.h"
#include "tandem/ir/tflite.h"

namespace tandem::ir {

// Quantised tensors are their real values, nothing is rounded. Error(bad_input) names the operator.
Graph tflite_float_graph(const TfliteModel& m);

// The same with the quantisers that the file states: weights and biases as Quant of constants (per channel where the file
// says so), activations as Quant behind the operator that computes them. Ports are real numbers.
Graph tflite_quant_graph(const TfliteModel& m);

}  // namespace tandem::ir
