// Templates and requests made to exhaust the server end in an error, soon.
#include <gtest/gtest.h>

#include <chrono>
#include <string>

#include "base/file.h"
#include "base/hash.h"
#include "text/goldens.h"
#include "text/jinja/render.h"
#include "text/small_tokenizer.h"

namespace bifocal::text {
namespace {

std::string repeated(const std::string& text, size_t times) {
  std::string out;
  for (size_t i = 0; i < times; ++i) out += text;
  return out;
}

// Meant to take less than 100 ms; the bound allows for sanitizers and loaded machines.
void expect_quick_error(const std::string& source, const std::string& variables = "{}") {
  const auto start = std::chrono::steady_clock::now();
  const std::string message = render_error(source, variables);
  const auto taken = std::chrono::steady_clock::now() - start;
  EXPECT_LT(taken, std::chrono::seconds(3)) << source.substr(0, 100);
  EXPECT_FALSE(message.empty());
}

TEST(TemplateLimits, Loops) {
  expect_quick_error("{% for i in range(10**9) %}x{% endfor %}");
  expect_quick_error("{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}");
  expect_quick_error(
      "{% for i in range(1000) %}{% for j in range(1000) %}{% for k in range(1000) %}x{% endfor %}{% endfor "
      "%}{% endfor %}");
  expect_quick_error("{% for i in 'x' * 4000000 %}{% for j in 'x' * 1000 %}{{ j }}{% endfor %}{% endfor %}");
  expect_quick_error("{{ range(-9223372036854775807, 9223372036854775807) }}");
  expect_quick_error("{{ range(0, 9223372036854775807, 9223372036854775806) | list }}{{ range(5, 1, 0) }}");
}

TEST(TemplateLimits, Texts) {
  expect_quick_error("{{ 'x' * 10**9 }}");
  expect_quick_error("{{ 'x' * 9223372036854775807 }}");
  expect_quick_error("{{ [0] * 10**9 }}");
  expect_quick_error(
      "{% set ns = namespace(s='x') %}{% for i in range(64) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}{{ "
      "ns.s }}");
  expect_quick_error(
      "{% set ns = namespace(s='x') %}{% for i in range(64) %}{% set ns.s = ns.s + ns.s %}{% endfor %}");
  expect_quick_error(
      "{% set ns = namespace(s='xx') %}{% for i in range(64) %}{% set ns.s = ns.s.replace('x', 'xxxxxxxx') "
      "%}{% endfor %}");
  expect_quick_error(
      "{% set ns = namespace(s='xx') %}{% for i in range(64) %}{% set ns.s = ns.s | replace('', 'xxxxxxxx') "
      "%}{% endfor %}");
  expect_quick_error("{{ '%999999999d' | format(1) }}");
  expect_quick_error("{{ '%-0999999999s' % 'a' }}");
  expect_quick_error("{{ 'a'.ljust(10**12) }}");
  expect_quick_error("{{ 'a' | indent(10**12, true) }}");
  expect_quick_error("{{ [1] | tojson(indent=10**9) }}");
  expect_quick_error("{{ ('\\n' * 100000) | indent(1000, blank=true) }}");
  expect_quick_error("{% for i in range(100000) %}{{ 'x' * 1000 }}{% endfor %}");
}

// A list that holds itself twice over: 2^60 items to print, compare or count.
TEST(TemplateLimits, SharedStructure) {
  const std::string doubling =
      "{% set ns = namespace(l=[1]) %}{% for i in range(60) %}{% set ns.l = [ns.l, ns.l] %}{% endfor %}";
  EXPECT_EQ(render(doubling + "{{ ns.l | length }}"), "2");
  for (const char* use : {"{{ ns.l }}", "{{ ns.l | tojson }}", "{{ ns.l == ns.l }}", "{{ ns.l | string }}",
                          "{{ ns.l in [ns.l] }}", "{{ [ns.l, ns.l] | unique | list }}", "{{ ns.l ~ '' }}",
                          "{{ ns.l | join }}", "{{ [ns.l, ns.l] | sort }}"}) {
    expect_quick_error(doubling + use);
  }
  expect_quick_error(
      "{% set ns = namespace(l=[]) %}{% for i in range(100000) %}{% set ns.l = [ns.l] %}{% endfor %}");
  expect_quick_error(
      "{% set ns = namespace(l={}) %}{% for i in range(100000) %}{% set ns.l = {'a': ns.l}.items %}{% set "
      "ns.l = {'a': ns.l} %}{% endfor %}");
  EXPECT_EQ(render("{% set ns = namespace() %}{% set ns.self = ns %}{{ ns.self.self.self is defined }}"),
            "True");
}

TEST(TemplateLimits, Recursion) {
  expect_quick_error("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}");
  expect_quick_error(
      "{% macro f(n) %}{{ g(n) }}{% endmacro %}{% macro g(n) %}{% if n %}{{ f(n) ~ f(n) }}{% endif %}{% "
      "endmacro %}{{ f(1) }}");
  expect_quick_error(
      "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(40) }}");
  expect_quick_error("{% macro f() %}{% call f() %}{% endcall %}{% endmacro %}{{ f() }}");
  EXPECT_EQ(
      render("{% macro f(n) %}{% if n %}{{ n }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(30) | length }}"),
      "51");
}

TEST(TemplateLimits, DeepSources) {
  constexpr size_t kDeep = 100'000;
  for (const char* open :
       {"(", "[", "{'a':", "not ", "-", "a[", "a(", "f(x=", "a if b else ", "a ~ (", "a is in ["}) {
    expect_quick_error("{{ " + repeated(open, kDeep) + " }}");
  }
  expect_quick_error("{{ " + repeated("(", kDeep) + "1" + repeated(")", kDeep) + " }}");
  expect_quick_error("{{ a" + repeated(".a", kDeep) + " }}");
  expect_quick_error("{{ a" + repeated("[0]", kDeep) + " }}");
  expect_quick_error("{{ a" + repeated("()", kDeep) + " }}");
  expect_quick_error("{{ 'a'" + repeated("|upper", kDeep) + " }}");
  expect_quick_error("{{ 1" + repeated(" is string", kDeep) + " }}");
  expect_quick_error(repeated("{% if a %}", kDeep));
  expect_quick_error(repeated("{% for a in b %}", kDeep));
  expect_quick_error(repeated("{% set a %}", kDeep));
  expect_quick_error(repeated("{% macro a() %}", kDeep));
  expect_quick_error(repeated("{% filter upper %}", kDeep));
  expect_quick_error("{{ f(" + repeated("1,", kDeep) + ") }}");
  expect_quick_error("{{ 'abc' | map(" + repeated("'map',", 120) + "'upper') | list }}");
  // Chains of one precedence are long, not deep.
  EXPECT_EQ(render("{{ 1" + repeated(" + 1", 5000) + " }}"), "5001");
  EXPECT_EQ(render("{{ 'a'" + repeated(" ~ 'a'", 5000) + " }}").size(), 5001u);
  EXPECT_EQ(render("{% if false %}" + repeated("{% elif false %}", 5000) + "{% else %}x{% endif %}"), "x");
}

TEST(TemplateLimits, Configurable) {
  TemplateLimits limits;
  limits.max_steps = 100;
  EXPECT_NE(render_error("{% for i in range(200) %}{{ i }}{% endfor %}", "{}", limits).find("100 steps"),
            std::string::npos);
  limits = {};
  limits.max_output_bytes = 10;
  EXPECT_FALSE(try_render("{{ 'x' * 11 }}", "{}", limits).ok());
  EXPECT_FALSE(try_render("xxxxxx{{ '' }}yyyyyy", "{}", limits).ok());
  EXPECT_TRUE(try_render("{{ 'x' * 10 }}", "{}", limits).ok());
  limits = {};
  limits.max_depth = 10;
  EXPECT_FALSE(try_render("{{ ((((((((((1)))))))))) }}", "{}", limits).ok());
}

// A long conversation of ordinary size stays well within the limits.
TEST(TemplateLimits, LongChatsPass) {
  auto chat = ChatTemplate::load(golden_directory("qwen"));
  ASSERT_TRUE(chat.ok());
  ChatInput input;
  JsonValue::Array messages;
  for (int i = 0; i < 2000; ++i) {
    messages.push_back(JsonValue(JsonValue::Object{{"role", JsonValue(i % 2 == 0 ? "user" : "assistant")},
                                                   {"content", JsonValue(repeated("word ", 100))}}));
  }
  input.messages = JsonValue(messages);
  const auto rendered = (*chat)->render(input);
  ASSERT_TRUE(rendered.ok()) << rendered.status().message();
  EXPECT_GT(rendered->text.size(), 1'000'000u);
}

// Random damage to real templates: a result or an error, nothing else.
TEST(TemplateLimits, RandomMutations) {
  const std::string messages =
      R"({"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "hi <|im_end|>"},
    {"role": "assistant", "content": null, "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": {"a": [1, "x"]}}}]},
    {"role": "tool", "content": "r"}, {"role": "assistant", "content": "<think>a</think>b"}, {"role": "user", "content": "more"}], "enable_thinking": false})";
  int rendered = 0;
  for (const char* name : {"qwen", "llama3", "deepseek", "gpt2"}) {
    const auto config = read_file(golden_directory(name) + "/tokenizer_config.json", uint64_t{1} << 24);
    ASSERT_TRUE(config.ok());
    JsonValue json = parsed(*config);
    const JsonValue& found = at(json, "chat_template");
    const std::string original =
        found.is_string() ? found.as_string() : found.as_array()[1].find("template")->as_string();
    for (uint64_t seed = 0; seed < 400; ++seed) {
      SplitMix64 random(seed);
      std::string source = original;
      for (uint64_t n = 1 + random.below(3); n > 0; --n) {
        const size_t where = random.below(source.size());
        switch (random.below(4)) {
          case 0:
            source[where] = "(){}[]%|.,:'\"-+~*/ax0 \n"[random.below(24)];
            break;
          case 1:
            source.erase(where, 1 + random.below(10));
            break;
          case 2:
            source.insert(where, source.substr(random.below(source.size()), random.below(60)));
            break;
          default:
            std::swap(source[where], source[random.below(source.size())]);
            break;
        }
      }
      if (try_render(source, messages).ok()) ++rendered;
    }
  }
  EXPECT_GT(rendered, 50);
}

}  // namespace
}  // namespace bifocal::text
