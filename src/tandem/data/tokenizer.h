// Byte-pair tokenizers of language models, as llama2.c stores them: a 32-bit longest length, then for every token a float32 score,
// a 32-bit length and its bytes. Token 1 begins a text, 2 ends one, "<0xNN>" stands for a byte.
#pragma once
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "tandem/base/limits.h"

namespace tandem::data {

class Tokenizer {
 public:
  // `vocabulary`: the number of tokens; 0: as many as the file holds. Error(bad_input) where the bytes say something else.
  static Tokenizer parse(std::string_view bytes, std::int64_t vocabulary = 0, const Limits& limits = {});
  static Tokenizer read(const std::filesystem::path& path, std::int64_t vocabulary = 0, const Limits& limits = {});

  std::int64_t size() const { return static_cast<std::int64_t>(pieces_.size()); }
  // The ids of a text, the begin token first: characters (bytes where a character is no token), of which the neighbours
  // whose joined token has the best score are joined until none can be.
  std::vector<std::int64_t> encode(std::string_view text) const;
  std::string decode(std::span<const std::int64_t> ids) const;  // begin and end tokens give nothing; a blank after the begin token is dropped

 private:
  std::vector<std::string> pieces_;
  std::vector<float> scores_;
  std::unordered_map<std::string, std::int64_t> ids_;
};

}  // namespace tandem::data
