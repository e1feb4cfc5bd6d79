// Inside of rtl: text helpers, and the emitter of one stage's module. The stages are in emit_*.cc, by family.
#pragma once
#include <algorithm>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "tandem/plan/stages.h"
#include "tandem/rtl/generate.h"

namespace tandem::rtl {
using plan::Layer;
using plan::StageGraph;
using plan::StageKind;
using plan::StageShape;
using I = std::int64_t;

// ---- text ---------------------------------------------------------------------------------------
// @NAME@ in a template is replaced by its value.
class Fill {
 public:
  Fill& set(std::string key, std::string v) { m_[std::move(key)] = std::move(v); return *this; }
  Fill& set(std::string key, I v) { return set(std::move(key), std::to_string(v)); }
  std::string operator()(std::string_view t) const;

 private:
  std::map<std::string, std::string> m_;
};

std::string num(int width, I v);  // sized constant, two's complement

// A word of packed fields, written as hexadecimal digits.
class Word {
 public:
  void add(I v, int bits) { for (int i = 0; i < bits; ++i) b_.push_back((static_cast<std::uint64_t>(v) >> std::min(i, 63)) & 1); }
  std::string hex() const;
  std::uint32_t part(std::size_t i) const;  // bits 32 i and up
  std::size_t bits() const { return b_.size(); }

 private:
  std::vector<bool> b_;
};

inline int counter_bits(I n) { return plan::bits_for(n); }

// slice of lane i
std::string lane(std::string_view name, I i, int bits, I lanes);
// sign- or zero-extension of an expression that is a plain name or part select
std::string extend(const std::string& wire, int from, bool is_signed, int to);

struct Module {
  std::string body;               // from "module" to "endmodule"
  std::vector<File> memories;
  // Of a stage whose memories can be written (32 bits at a time, addressed so): address bits, what stands there, and how to say it again.
  int address_bits = 0;
  Window window;
  std::vector<std::pair<I, std::uint32_t>> writes;
};

// ---- the emitter --------------------------------------------------------------------------------
class Emitter {
 public:
  Emitter(const StageGraph& g, const StageShape& s, std::string name, plan::Family family);
  Module emit();

 private:
  const StageGraph& g_;
  const StageShape& s_;
  std::string name_;
  plan::Family family_;
  Fill f_;
  Module m_;

  const Layer& layer() const { return g_.layers[static_cast<std::size_t>(s_.layer)]; }
  void put(std::string_view t) { m_.body += f_(t); }
  template <class... A>
  void line(fmt::format_string<A...> f, A&&... a) { m_.body += "  " + fmt::format(f, std::forward<A>(a)...) + "\n"; }
  static std::string range(I width) { return width == 1 ? "[0:0]" : fmt::format("[{}:0]", width - 1); }
  static std::string signed_num(int width, I v) { return fmt::format("{}'sd{}", width, v); }

  // Removes one-line wires that nothing reads: which of a counter's flags are needed depends on the shape.
  void drop_unread();
  void head(std::string_view comment, bool two_inputs = false);
  // The attribute that tells synthesis whether a memory is a block RAM.
  std::string_view block(I depth, I width, plan::Memory kind) const;
  // A memory that yosys maps to block RAM: synchronous read under `enable`.
  void memory(std::string_view suffix, const std::vector<Word>& words, int width, std::string_view q, std::string_view enable, std::string_view address);
  // Memories that can be written. Entries of so many bits, one after the other at 32-bit addresses, each at the beginning of a power
  // of two of them; its last part stores it.
  struct Entries {
    int index_bits = 0, width = 1;
    I parts() const { return (width + 31) / 32; }
    int part_bits() const;
    int address_bits() const { return std::max(1, index_bits + part_bits()); }
  };
  Entries entries() const;
  // cfg_store: an entry is whole; cfg_entry: what it holds; cfg_index: which.
  void config();
  void writes(I index, const Word& w);
  // As memory(), written where `select`; a single word is no memory and is there at once.
  void writable(std::string_view suffix, const std::vector<Word>& words, int width, std::string_view q, std::string_view enable, std::string_view address, const std::string& select, const std::string& to);
  // A counter 0..n-1 that steps when `step` is true; `name`_end tells the last value. n = 1: no register.
  void counter(std::string_view name, I n, std::string_view step);
  // TLAST of a stage with one register.
  void last_register(std::string_view enable);

  // emit_plumbing.cc
  int payload() const { return static_cast<int>(s_.lanes_in * s_.bits_in) + (s_.last_in ? 1 : 0); }
  std::string packed_in() const { return s_.last_in ? "{s_tlast, s_tdata}" : "s_tdata"; }
  void unpack(std::string_view reg, std::string_view port = "m");
  void skid();
  void fifo();
  void fork();
  void narrower();
  void wider();

  // emit_window.cc
  void pad();
  void wrap_add(std::string_view name, const std::string& a, const std::string& b, int bits, I depth);
  void window();
  void pool();
  void total();

  // emit_matrix.cc
  struct Term {  // one number in a wire or register
    std::string name;
    int bits = 1;
    bool is_signed = true;
  };
  // Bits [from, from + width) of a term, extended by its sign or by zeros.
  static std::string bits_of(const Term& t, int from, int width);
  void replay();
  void multiply();
  Term product_plain(const std::string& id, int product_bits);
  void multiples(const std::string& lane);
  Term product_logic(const std::string& id, const std::string& lane);
  void packed_rows(std::vector<std::vector<Term>>& rows, int tree_levels);
  std::vector<Term> add_pairs(const std::vector<Term>& terms, const std::string& id, int bits);
  void constants();

  // emit_requant.cc
  // Steps of one channel as the search wants them: entry c holds the step into code c; flipped channels
  // count downwards.
  struct Table {
    std::vector<I> step;  // [2^bits]
    bool flip = false;
  };
  Table table_of(I channel) const;
  bool any_flip() const;
  void level(const std::string& code, const std::string& flip, const std::string& out);
  struct Place {  // of the step being written
    std::string here, part, step;
  };
  void steps();
  Place step_place(I lane) const;
  I step_index(I lane, I part, I code) const;
  void threshold_serial();
  void threshold_pipeline();
  void factors(I i, I g, std::string_view enable);
  void level_of_sum(I i);
  void rescale_pipeline();
  void rescale_serial();

  // emit_move.cc
  void reorder();
  // Counters over the beats of a frame, and wire `keep`: which of them pass. Conditions of the last beat that passes, of the last.
  struct Mask {
    std::string last_kept, last;
  };
  Mask mask(I beats);
  void select();
  void insert();
  void concat();

  // emit_elementwise.cc
  void affine();
  void product();
  void argmax();
  void topk();

  // emit_vector.cc
  void softmax();
  void normalize();
};

}  // namespace tandem::rtl
