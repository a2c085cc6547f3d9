// The accuracy tests are worth their time: a backend that is subtly wrong makes them fall far below the model
// card's figures, which the same backend reaches when it is right.
#include <gtest/gtest.h>

#include <functional>

#include "base/file.h"
#include "base/json.h"
#include "engine/bundled_model.h"
#include "eval/accuracy.h"
#include "eval/engine_generator.h"

namespace bifocal::eval {
namespace {

// The tiled backend with its mind on another attention class than the one that it is asked for. Serves models
// of one class.
class MistakenBackend final : public attention::Backend {
 public:
  using Mistake = std::function<void(attention::AttentionDesc&)>;
  explicit MistakenBackend(Mistake mistake)
      : tiled_(*attention::find_backend("tiled")), mistake_(std::move(mistake)) {}

  const attention::Capabilities& capabilities() const override { return tiled_.capabilities(); }
  Expected<attention::PlanBuffers> make_buffers(const attention::AttentionDesc& desc,
                                                const attention::PlanLimits& limits) const override {
    desc_ = desc;
    mistake_(desc_);
    return tiled_.make_buffers(desc_, limits);
  }
  attention::Plan plan(const attention::AttentionDesc&, const attention::AttentionBatch& batch,
                       attention::PlanBuffers& buffers) const override {
    attention::Plan plan = tiled_.plan(desc_, batch, buffers);
    plan.backend = this;
    return plan;
  }
  Status run(const attention::Plan& plan, const attention::AttentionDesc&, uint64_t step,
             const attention::LayerInputs& inputs, ThreadPool& pool) const override {
    attention::Plan sound = plan;
    sound.backend = &tiled_;
    return tiled_.run(sound, desc_, step, inputs, pool);
  }

 private:
  const attention::Backend& tiled_;
  Mistake mistake_;
  mutable attention::AttentionDesc desc_;
};

struct Accuracies {
  double word_problems = 0;
  double multiple_choice = 0;
};

Accuracies measure(MistakenBackend::Mistake mistake) {
  const MistakenBackend backend(std::move(mistake));
  const std::array<const attention::Backend*, 1> backends = {&backend};
  engine::EngineOptions options;
  options.kv_dtype = DType::bf16;
  options.max_total_tokens = 32768;
  options.pool = std::make_shared<ThreadPool>(2);
  options.attention.backends = backends;
  const auto engine = engine::bundled_engine(options);
  auto tokenizer = text::Tokenizer::load(engine::bundled_model_directory() + "/tokenizer.json");
  if (engine == nullptr || !tokenizer.ok()) return {};
  EngineGenerator generator(*engine, std::move(*tokenizer));
  const std::string data = std::string(BIFOCAL_SOURCE_DIR) + "/models/data/";
  AccuracyOptions test;
  test.num_shots = 0;
  test.num_questions = 48;  // three of each family
  const auto problems = run_gsm8k(generator, data + "gsm.jsonl", "", test);
  test.num_questions = 6;
  const auto choices = run_mmlu(generator, data + "mmlu", 10, test);
  EXPECT_TRUE(problems.ok() && choices.ok()) << problems.status().message() << choices.status().message();
  if (!problems.ok() || !choices.ok()) return {};
  EXPECT_EQ(problems->total().total, 48);
  EXPECT_EQ(choices->total().total, 60);
  return {problems->total().accuracy(), choices->total().accuracy()};
}

// As the model card has them.
Accuracies card() {
  const auto text =
      read_file(std::string(BIFOCAL_SOURCE_DIR) + "/models/data/figures-tiny-qwen3.json", 1 << 20);
  EXPECT_TRUE(text.ok());
  const auto json = parse_json(*text);
  EXPECT_TRUE(json.ok());
  const JsonValue& figures = *json->find("float32");
  return {figures.find("gsm_0_shot")->as_double() / 100, figures.find("mmlu_0_shot")->as_double() / 100};
}

TEST(BrokenBackend, WithoutAMistakeReachesTheCard) {
  const Accuracies measured = measure([](attention::AttentionDesc&) {});
  EXPECT_NEAR(measured.word_problems, card().word_problems, 0.025);  // one question of 48
  EXPECT_NEAR(measured.multiple_choice, card().multiple_choice, 0.02);
}

// A mistake of each size. Word problems notice all of them; one-letter answers need less attention, and
// notice the largest.
TEST(BrokenBackend, FarBelowTheCard) {
  struct Case {
    const char* what;
    MistakenBackend::Mistake mistake;
    bool multiple_choice_falls;
  };
  const std::vector<Case> cases = {
      {"scores half as large", [](attention::AttentionDesc& desc) { desc.scale /= 2; }, false},
      {"a window where there is none", [](attention::AttentionDesc& desc) { desc.window = 32; }, false},
      {"a window of a few tokens", [](attention::AttentionDesc& desc) { desc.window = 4; }, true},
      {"scores without weight", [](attention::AttentionDesc& desc) { desc.scale = 0; }, true},
  };
  for (const Case& each : cases) {
    const Accuracies measured = measure(each.mistake);
    EXPECT_LT(measured.word_problems, card().word_problems - 0.5) << each.what;
    if (each.multiple_choice_falls) {
      EXPECT_LT(measured.multiple_choice, card().multiple_choice - 0.3) << each.what;
    }
  }
}

}  // namespace
}  // namespace bifocal::eval
