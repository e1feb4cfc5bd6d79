#include "tandem/base/table.h"

#include <gtest/gtest.h>

#include "tandem/base/json.h"

namespace tandem {
namespace {

Table sample() {
  Table t;
  t.columns = {{"node"}, {"MACs", true}};
  t.add({"conv|1", "1 200"});
  t.add({"=cmd()", "-7"});
  t.foot = {"total", "1 193"};
  return t;
}

TEST(table, text) {
  EXPECT_EQ(render(sample(), TableStyle::text),
            "node     MACs\n-------------\nconv|1  1 200\n=cmd()     -7\n-------------\ntotal   1 193\n");
}

TEST(table, narrow_terminal_cuts_names_never_numbers) {
  Table t;
  t.columns = {{"node"}, {"n", true}};
  t.add({std::string(100, 'a'), "123456789"});
  const std::string s = render(t, TableStyle::text, 40);
  for (std::size_t i = 0, e; i < s.size(); i = e + 1) {
    e = s.find('\n', i);
    EXPECT_LE(e - i, 40u);
  }
  EXPECT_NE(s.find("123456789"), std::string::npos);
}

TEST(table, csv_cells_are_no_formulas) {
  EXPECT_EQ(render(sample(), TableStyle::csv), "node,MACs\nconv|1,1200\n'=cmd(),-7\ntotal,1193\n");
}

TEST(table, markdown) {
  EXPECT_EQ(render(sample(), TableStyle::markdown),
            "| node | MACs |\n|---|---:|\n| conv\\|1 | 1 200 |\n| =cmd() | -7 |\n| total | 1 193 |\n");
}

TEST(table, digit_groups) {
  EXPECT_EQ(grouped(0), "0");
  EXPECT_EQ(grouped(999), "999");
  EXPECT_EQ(grouped(1000), "1 000");
  EXPECT_EQ(grouped(-1234567), "-1 234 567");
}

TEST(json, document) {
  JsonWriter j;
  j.object().field("n", 3).field("x", 0.1).field("list", std::vector<std::int64_t>{1, 2});
  j.key("rows").array().object().field("a", "q\"\n\x1b").end().end().key("none").null().key("empty").object().end().end();
  EXPECT_EQ(j.text(),
            "{\n  \"n\": 3,\n  \"x\": 0.1,\n  \"list\": [1, 2],\n  \"rows\": [\n    {\n      \"a\": \"q\\\"\\n\\u001b\"\n    }\n  ],\n"
            "  \"none\": null,\n  \"empty\": {}\n}\n");
}

TEST(json, strings) {
  EXPECT_EQ(json_string("\xff"), "\"\\ufffd\"");
  EXPECT_EQ(json_string("\xc3\xa4"), "\"\xc3\xa4\"");
  EXPECT_EQ(json_string("\xed\xa0\x80"), "\"\\ufffd\\ufffd\\ufffd\"");  // a surrogate is no character
}

}  // namespace
}  // namespace tandem
