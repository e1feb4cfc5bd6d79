// Counting before parsing.
#include "tandem/ir/onnx_private.h"

namespace tandem::ir::onnx_file {
namespace {

// A walk over the wire format that knows which fields hold messages. It bounds what the parser would
// allocate: 20 MB of empty nodes become 1.5 GB of objects.

enum Kind : int { kText, kModel, kGraph, kNode, kAttribute, kTensor, kValueInfo, kType, kTensorType, kShape, kDim, kEntry, kAnnotation,
                  kSparse, kFunction, kTraining, kNested, kKinds };

Kind child_of(Kind parent, int field) {
  switch (parent) {
    case kModel: return field == 7 ? kGraph : field == 8 || field == 14 ? kEntry : field == 20 ? kTraining : field == 25 ? kFunction : kText;
    case kGraph:
      return field == 1 ? kNode : field == 5 ? kTensor : field >= 11 && field <= 13 ? kValueInfo : field == 14 ? kAnnotation : field == 15 ? kSparse : kText;
    case kNode: return field == 5 ? kAttribute : kText;
    case kAttribute:
      return field == 5 || field == 10 ? kTensor : field == 6 || field == 11 ? kGraph : field == 14 || field == 15 ? kType : field == 22 || field == 23 ? kSparse : kText;
    case kTensor: return field == 13 || field == 3 ? kEntry : kText;
    case kValueInfo: return field == 2 ? kType : kText;
    case kType: return field == 1 || field == 8 ? kTensorType : field == 4 || field == 5 || field == 9 ? kNested : kText;
    case kNested: return field == 1 || field == 2 ? kType : kText;
    case kTensorType: return field == 2 ? kShape : kText;
    case kShape: return field == 1 ? kDim : kText;
    case kAnnotation: return field == 2 ? kEntry : kText;
    case kSparse: return field == 1 || field == 2 ? kTensor : kText;
    case kFunction: return field == 7 ? kNode : field == 9 ? kEntry : field == 11 ? kAttribute : kText;
    case kTraining: return field == 1 || field == 2 ? kGraph : kEntry;
    default: return kText;
  }
}

struct Scan {
  std::string_view bytes;
  const Limits& limits;
  std::uint64_t nodes = 0, memory = 0;

  [[noreturn]] void truncated(std::size_t at, const std::string& what) const {
    throw bad_input("{} at byte {} of {}", what, at, bytes.size())
        .expected("an ONNX file (a protobuf message), whole")
        .fix("the file is truncated or is no ONNX file: export or copy it again");
  }
  std::uint64_t varint(std::size_t& p, std::size_t end) const {
    std::uint64_t v = 0;
    const std::size_t start = p;
    for (int shift = 0; shift < 64; shift += 7) {
      if (p >= end) truncated(start, "a number ends too early");
      const auto b = static_cast<unsigned char>(bytes[p++]);
      v |= static_cast<std::uint64_t>(b & 0x7F) << shift;
      if (!(b & 0x80)) return v;
    }
    truncated(start, "a number of more than ten bytes");
  }
  void spend(std::uint64_t n) {
    memory += n;
    if (memory > limits.memory_bytes)
      throw Error(Exit::limit, fmt::format("the model would take more than {} MiB of memory", limits.memory_bytes >> 20)).fix("raise --memory");
  }
  void walk(Kind kind, std::size_t p, std::size_t end, std::uint32_t depth) {
    // Stays below the parser's own limit of nesting (100), which it reports without a place.
    if (depth > std::min<std::uint32_t>(limits.depth, 90))
      throw bad_input("messages are nested more than {} deep", depth - 1).fix("sub-graphs and nested types are not supported");
    while (p < end) {
      const std::size_t start = p;
      const std::uint64_t tag = varint(p, end);
      const std::uint64_t field = tag >> 3;
      if (field == 0 || field > (1u << 29)) truncated(start, "an impossible field number");
      switch (tag & 7) {
        case 0: varint(p, end); spend(16); break;
        case 1:
          if (end - p < 8) truncated(start, "a field ends too early");
          p += 8, spend(16);
          break;
        case 5:
          if (end - p < 4) truncated(start, "a field ends too early");
          p += 4, spend(16);
          break;
        case 2: {
          const std::uint64_t n = varint(p, end);
          if (n > end - p) truncated(start, fmt::format("a field of {} bytes with {} left", n, end - p));
          const Kind c = child_of(kind, static_cast<int>(std::min<std::uint64_t>(field, 1000)));
          if (c == kText) {
            // Packed varints grow to 8 bytes each; raw data and names do not.
            spend(48 + (kind == kTensor && (field == 5 || field == 7 || field == 11) ? 8 * n : n));
          } else {
            if ((c == kNode || c == kTensor || c == kValueInfo || c == kAttribute || c == kAnnotation) && ++nodes > 8 * limits.nodes)
              throw Error(Exit::limit, fmt::format("the model has more than {} nodes, attributes and tensors", 8 * limits.nodes));
            spend(c == kTensor ? 320 : c == kAttribute ? 288 : c == kGraph ? 288 : 160);
            walk(c, p, p + n, depth + 1);
          }
          p += n;
          break;
        }
        default: truncated(start, fmt::format("wire type {}", tag & 7));
      }
    }
  }
};

}  // namespace

void count_before_parsing(std::string_view bytes, bool tensor, const Limits& limits) {
  Scan{bytes, limits}.walk(tensor ? kTensor : kModel, 0, bytes.size(), 0);
}

}  // namespace tandem::ir::onnx_file
