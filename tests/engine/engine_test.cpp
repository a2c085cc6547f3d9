#include "engine/engine.h"

#include <gtest/gtest.h>
#include <time.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <new>
#include <numeric>
#include <set>
#include <stdexcept>
#include <thread>

#include "engine/engine_harness.h"

namespace bifocal::engine {
namespace {

std::vector<int32_t> prompt_of(int32_t length, int32_t start = 0) {
  std::vector<int32_t> prompt(static_cast<size_t>(length));
  for (int32_t i = 0; i < length; ++i) prompt[static_cast<size_t>(i)] = (start + 7 * i + i * i / 3) % 60;
  return prompt;
}

int32_t argmax(const std::vector<double>& logits) {
  return static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

TEST(Engine, GeneratesWhatTheModelSaysWithoutPagesOrBatches) {
  FakeEngine fake;
  for (const int32_t length : {1, 3, 4, 5, 31, 32, 33, 70}) {
    auto tokens = prompt_of(length, length);
    const auto output = fake.generate(greedy_request("r", tokens, 12));
    for (const int32_t token : output.tokens) {
      ASSERT_EQ(token, argmax(fake.model->reference_logits(tokens))) << "prompt of " << length;
      tokens.push_back(token);
    }
    EXPECT_EQ(output.tokens.size(), 12U);
    EXPECT_EQ(output.last.finish, FinishReason::length);
    EXPECT_EQ(output.last.prompt_tokens, length);
    EXPECT_EQ(output.last.completion_tokens, 12);
  }
}

TEST(Engine, LogprobsOfPromptAndOutputAreTheModels) {
  FakeEngine fake;
  const auto prompt = prompt_of(45);
  for (const int64_t start : {0, 1, 20, 44, 45, 100}) {
    auto request = greedy_request("r", prompt, 5);
    request.return_logprob = true;
    request.logprob_start_len = start;
    request.top_logprobs_num = 2;
    auto collector = fake.submit(std::move(request));
    ASSERT_TRUE(collector->wait());
    EXPECT_TRUE(collector->complaints().empty());
    const auto output = collector->output();
    std::vector<int32_t> tokens = prompt;
    tokens.insert(tokens.end(), output.tokens.begin(), output.tokens.end());
    const auto check = [&](const OutputToken& token, size_t position) {
      EXPECT_EQ(token.id, tokens[position]);
      const auto logits =
          fake.model->reference_logits({tokens.begin(), tokens.begin() + static_cast<ptrdiff_t>(position)});
      double total = 0;
      for (const double x : logits) total += std::exp(x);
      EXPECT_NEAR(token.logprob, logits[static_cast<size_t>(token.id)] - std::log(total), 2e-5);
      ASSERT_EQ(token.top_logprobs.size(), 2U);
      EXPECT_EQ(token.top_logprobs[0].token_id, argmax(logits));
    };
    const auto scored = collector->prompt_logprobs();
    ASSERT_EQ(scored.size(), static_cast<size_t>(std::max<int64_t>(0, 45 - start))) << start;
    for (size_t i = 0; i < scored.size(); ++i) {
      const size_t position = static_cast<size_t>(start) + i;
      ASSERT_EQ(scored[i].has_value(), position > 0);
      if (position > 0) check(*scored[i], position);
    }
    for (size_t i = 0; i < output.details.size(); ++i) check(output.details[i], prompt.size() + i);
  }
}

TEST(Engine, ScoresAPromptWithoutGenerating) {
  FakeEngine fake;
  auto request = greedy_request("r", prompt_of(40), 0);
  request.return_logprob = true;
  request.logprob_start_len = 0;
  auto collector = fake.submit(std::move(request));
  ASSERT_TRUE(collector->wait());
  EXPECT_EQ(collector->prompt_logprobs().size(), 40U);
  EXPECT_TRUE(collector->output().tokens.empty());
  EXPECT_EQ(collector->output().last.finish, FinishReason::length);
}

TEST(Engine, ChoicesHaveSeedsOfTheirOwnAndTheFirstIsTheLoneOne) {
  FakeEngine fake;
  auto request = greedy_request("r", prompt_of(18), 20);
  request.sampling.temperature = 1.5;
  request.sampling.seed = 9;
  const auto alone = fake.generate(request);
  request.sampling.n = 4;
  auto collector = fake.submit(request);
  ASSERT_TRUE(collector->wait());
  EXPECT_TRUE(collector->complaints().empty());
  std::set<std::vector<int32_t>> distinct;
  for (int choice = 0; choice < 4; ++choice) {
    EXPECT_EQ(collector->output(choice).tokens.size(), 20U);
    distinct.insert(collector->output(choice).tokens);
  }
  EXPECT_EQ(distinct.size(), 4U);
  EXPECT_EQ(collector->output(0).tokens, alone.tokens);
  EXPECT_EQ(fake.generate(request).tokens, alone.tokens);  // again: the same
}

TEST(Engine, EndTokensEndAndAreLeftOutOfTheText) {
  FakeEngine fake;
  const auto free = fake.generate(greedy_request("r", prompt_of(10), 30));
  // Any token that the free run wrote can serve as the stop token.
  const int32_t stop = free.tokens[7];
  const auto first =
      static_cast<size_t>(std::find(free.tokens.begin(), free.tokens.end(), stop) - free.tokens.begin());
  auto request = greedy_request("r", prompt_of(10), 30);
  request.sampling.stop_token_ids = {stop};
  const auto stopped = fake.generate(request);
  EXPECT_EQ(stopped.tokens.size(), first + 1);
  EXPECT_EQ(stopped.last.finish, FinishReason::stop);
  EXPECT_EQ(stopped.last.matched_token, stop);
  EXPECT_EQ(stopped.text, fake.tokenizer->decode(std::span(free.tokens).first(first), true));
  request.sampling.no_stop_trim = true;
  EXPECT_EQ(fake.generate(request).text,
            fake.tokenizer->decode(std::span(free.tokens).first(first + 1), true));
  request.sampling.min_new_tokens = static_cast<int64_t>(first) + 3;  // the stop token is banned until then
  const auto later = fake.generate(request);
  EXPECT_GT(later.tokens.size(), first + 2);
  EXPECT_EQ(std::count(later.tokens.begin(), later.tokens.begin() + static_cast<ptrdiff_t>(first) + 3, stop),
            0);
}

TEST(Engine, EosEndsUnlessItIsIgnored) {
  FakeEngine fake;
  auto request = greedy_request("r", prompt_of(10), 10);
  request.sampling.ignore_eos = false;
  request.sampling.logit_bias = {{kFakeEos, 100.0F}};
  const auto ended = fake.generate(request);
  EXPECT_EQ(ended.tokens, (std::vector<int32_t>{kFakeEos}));
  EXPECT_EQ(ended.last.matched_token, kFakeEos);
  EXPECT_EQ(ended.text, "");
  request.sampling.ignore_eos = true;
  EXPECT_EQ(fake.generate(request).tokens.size(), 10U);
}

TEST(Engine, StopStringsEndAndAreCutOff) {
  FakeEngine fake;
  const auto free = fake.generate(greedy_request("r", prompt_of(12), 30));
  const std::string stop = free.text.substr(10, 3);
  auto request = greedy_request("r", prompt_of(12), 30);
  request.sampling.stop = {stop, "never seen"};
  const auto stopped = fake.generate(request);
  EXPECT_EQ(stopped.last.finish, FinishReason::stop);
  EXPECT_EQ(stopped.last.matched_string, stop);
  EXPECT_EQ(stopped.text, free.text.substr(0, free.text.find(stop)));
  EXPECT_LT(stopped.tokens.size(), 30U);
}

TEST(Engine, TextNeverHoldsHalfACharacter) {
  FakeEngine fake;
  auto request = greedy_request("r", prompt_of(5), 1);
  request.sampling.logit_bias = {{60, 100.0F}};
  EXPECT_EQ(fake.generate(request).text, "\xEF\xBF\xBD");  // the second half never came
}

TEST(Engine, TheContextLimitsTheOutput) {
  FakeEngine fake;
  EXPECT_EQ(fake.engine->context_length(), 512);
  const auto output = fake.generate(greedy_request("r", prompt_of(500), 1'000'000));
  EXPECT_EQ(output.tokens.size(), 12U);
  EXPECT_EQ(output.last.finish, FinishReason::length);
}

TEST(Engine, WhatCanNeverRunIsRefused) {
  FakeEngine fake;
  const auto refused = [&](GenerateRequest request) {
    const Status status = fake.engine->submit(std::move(request), [](OutputEvent) { FAIL() << "an event"; });
    EXPECT_EQ(status.code(), StatusCode::invalid_argument) << status.message();
    return status.message();
  };
  EXPECT_NE(refused(greedy_request("r", {}, 1)).find("empty"), std::string::npos);
  EXPECT_NE(refused(greedy_request("r", prompt_of(512), 1)).find("512"), std::string::npos);
  EXPECT_NE(refused(greedy_request("r", {1, 64}, 1)).find("token 1 is 64"), std::string::npos);
  refused(greedy_request("r", {-1}, 1));
  auto request = greedy_request("r", {1}, 1);
  request.sampling.top_p = 0;
  EXPECT_NE(refused(request).find("top_p"), std::string::npos);
  request = greedy_request("r", {1}, 1);
  request.logprob_start_len = -2;
  refused(request);
  request = greedy_request("r", {1}, 1);
  request.top_logprobs_num = 1'000'000;
  refused(request);
  EXPECT_TRUE(fake.engine->idle());
}

TEST(Engine, WithoutATokenizerThereIsNoText) {
  FakeEngine fake(small_options(), false);
  auto request = greedy_request("r", prompt_of(5), 8);
  const auto output = fake.generate(request);
  EXPECT_EQ(output.tokens.size(), 8U);
  EXPECT_EQ(output.text, "");
  request.sampling.stop = {"x"};
  EXPECT_EQ(fake.engine->submit(request, [](OutputEvent) {}).code(), StatusCode::invalid_argument);
}

TEST(Engine, IdsAreUniqueAmongLiveRequests) {
  FakeEngine fake;
  Gate gate;
  fake.model->on_forward = [&](const auto&) {
    gate.pass();
    return Status();
  };
  auto first = fake.submit(greedy_request("same", prompt_of(5), 3));
  EXPECT_EQ(fake.engine->submit(greedy_request("same", prompt_of(5), 3), [](OutputEvent) {}).code(),
            StatusCode::invalid_argument);
  gate.open();
  ASSERT_TRUE(first->wait());
  EXPECT_EQ(fake.generate(greedy_request("same", prompt_of(5), 3)).tokens, first->output().tokens);
}

TEST(Engine, AbortTakesEffectBeforeTheNextStep) {
  auto options = small_options();
  options.max_running_requests = 1;
  FakeEngine fake(options);
  Gate gate;
  std::atomic<int> steps = 0;
  fake.model->on_forward = [&](const auto&) {
    ++steps;
    gate.pass();
    return Status();
  };
  auto running = fake.submit(greedy_request("running", prompt_of(20), 100));
  gate.wait_for_visitor();
  auto queued = fake.submit(greedy_request("queued", prompt_of(20, 5), 100));
  EXPECT_TRUE(fake.engine->abort("running"));
  EXPECT_TRUE(fake.engine->abort("queued"));
  EXPECT_FALSE(fake.engine->abort("unknown"));
  gate.open();
  ASSERT_TRUE(running->wait());
  ASSERT_TRUE(queued->wait());
  EXPECT_EQ(running->output().last.finish, FinishReason::abort);
  EXPECT_EQ(running->output().tokens.size(), 1U);  // the step in flight
  EXPECT_EQ(queued->output().last.finish, FinishReason::abort);
  EXPECT_TRUE(queued->output().tokens.empty());
  ASSERT_TRUE(fake.wait_idle());
  EXPECT_EQ(steps, 1);
  const auto stats = fake.engine->stats();
  EXPECT_EQ(stats->free_pages + stats->cached_pages, stats->total_pages);
  EXPECT_EQ(stats->aborted_requests, 2U);
  EXPECT_FALSE(fake.engine->abort("running"));
}

TEST(Engine, AbortAllEndsEverybodyOnce) {
  FakeEngine fake;
  std::vector<std::shared_ptr<Collector>> collectors;
  for (int i = 0; i < 20; ++i) {
    auto request = greedy_request("r" + std::to_string(i), prompt_of(10, i), 400);
    request.sampling.n = 1 + i % 3;
    collectors.push_back(fake.submit(request));
  }
  fake.engine->abort_all();
  for (auto& collector : collectors) {
    ASSERT_TRUE(collector->wait());
    EXPECT_TRUE(collector->complaints().empty());
    EXPECT_EQ(collector->output().last.finish, FinishReason::abort);
  }
}

TEST(Engine, AFullQueueRefusesAndTellsWhy) {
  auto options = small_options();
  options.max_running_requests = 1;
  options.max_queued_requests = 2;
  FakeEngine fake(options);
  Gate gate;
  fake.model->on_forward = [&](const auto&) {
    gate.pass();
    return Status();
  };
  auto running = fake.submit(greedy_request("running", prompt_of(5), 2));
  gate.wait_for_visitor();
  auto first = fake.submit(greedy_request("first", prompt_of(5), 2));
  auto second = fake.submit(greedy_request("second", prompt_of(5), 2));
  const Status full = fake.engine->submit(greedy_request("third", prompt_of(5), 2), [](OutputEvent) {});
  EXPECT_EQ(full.code(), StatusCode::resource_exhausted);
  EXPECT_NE(full.message().find("2 of 2"), std::string::npos) << full.message();
  gate.open();
  for (auto& collector : {running, first, second}) EXPECT_TRUE(collector->wait());
  EXPECT_EQ(fake.generate(greedy_request("third", prompt_of(5), 2)).tokens.size(), 2U);
}

TEST(Engine, DrainingRefusesNewcomersAndFinishesTheRest) {
  FakeEngine fake;
  auto live = fake.submit(greedy_request("live", prompt_of(10), 50));
  fake.engine->begin_drain();
  EXPECT_EQ(fake.engine->submit(greedy_request("late", prompt_of(10), 5), [](OutputEvent) {}).code(),
            StatusCode::unavailable);
  ASSERT_TRUE(live->wait());
  EXPECT_EQ(live->output().last.finish, FinishReason::length);
  EXPECT_TRUE(fake.engine->idle());
}

TEST(Engine, DestructionAbortsWhatIsLeft) {
  auto collector = Collector::make();
  {
    FakeEngine fake;
    ASSERT_TRUE(fake.engine->submit(greedy_request("r", prompt_of(10), 480), collector->sink()).ok());
    ASSERT_TRUE(collector->wait_tokens(1));
  }
  EXPECT_TRUE(collector->finished());
  EXPECT_TRUE(collector->complaints().empty());
}

TEST(Engine, ANumericFaultEndsThatRequestAlone) {
  constexpr int kRequests = 16;
  const auto run = [](bool poison) {
    auto options = small_options();
    FakeEngine fake(options);
    // Request 5 alone has a prompt of 21 tokens, so its fifth token stands at position 25.
    if (poison) fake.model->is_poisoned = [](int32_t, int32_t position) { return position == 25; };
    std::vector<std::shared_ptr<Collector>> collectors;
    for (int i = 0; i < kRequests; ++i) {
      auto request = greedy_request("r" + std::to_string(i), prompt_of(i == 5 ? 21 : 3, i), i == 5 ? 30 : 20);
      request.return_logprob = true;
      request.sampling.temperature = 0.8;
      collectors.push_back(fake.submit(request));
    }
    std::vector<Collector::Output> outputs;
    for (auto& collector : collectors) {
      EXPECT_TRUE(collector->wait());
      EXPECT_TRUE(collector->complaints().empty());
      outputs.push_back(collector->output());
    }
    EXPECT_TRUE(fake.wait_idle());
    const auto stats = fake.engine->stats();
    EXPECT_EQ(stats->numeric_faults, poison ? 1U : 0U);
    EXPECT_EQ(stats->failed_requests, poison ? 1U : 0U);
    EXPECT_EQ(stats->free_pages + stats->cached_pages, stats->total_pages);
    return outputs;
  };
  const auto sound = run(false);
  const auto faulted = run(true);
  EXPECT_EQ(faulted[5].last.finish, FinishReason::error);
  EXPECT_NE(faulted[5].last.error.message().find("numeric_fault"), std::string::npos);
  EXPECT_EQ(faulted[5].tokens.size(), 5U);
  for (size_t i = 0; i < kRequests; ++i) {
    if (i == 5) continue;
    EXPECT_EQ(faulted[i].tokens, sound[i].tokens);
    for (size_t t = 0; t < sound[i].details.size(); ++t) {
      EXPECT_EQ(faulted[i].details[t].logprob, sound[i].details[t].logprob);  // to the bit
    }
  }
}

TEST(Engine, NothingOfAFaultedPromptIsReused) {
  FakeEngine fake;
  std::atomic<bool> poison = true;
  fake.model->is_poisoned = [&](int32_t, int32_t position) {
    return poison && position == 31;
  };  // first chunk's end
  const auto faulted = fake.generate(greedy_request("r", prompt_of(60), 5));
  EXPECT_EQ(faulted.last.finish, FinishReason::error);
  EXPECT_TRUE(faulted.tokens.empty());
  poison = false;
  const auto sound = fake.generate(greedy_request("r", prompt_of(60), 5));
  EXPECT_EQ(sound.last.cached_tokens, 0);
  EXPECT_EQ(sound.tokens.size(), 5U);
}

TEST(Engine, ARequestThatMayChooseNothingFailsAlone) {
  FakeEngine fake;
  auto request = greedy_request("r", prompt_of(5), 5);
  for (int32_t token = 0; token < kFakeVocab; ++token) request.sampling.stop_token_ids.push_back(token);
  request.sampling.min_new_tokens = 1;
  EXPECT_EQ(fake.generate(request).last.finish, FinishReason::error);
  EXPECT_EQ(fake.generate(greedy_request("r", prompt_of(5), 5)).tokens.size(), 5U);
}

TEST(Engine, AThrowingSinkIsContained) {
  FakeEngine fake;
  auto neighbour = fake.submit(greedy_request("neighbour", prompt_of(10), 60));
  std::atomic<int> calls = 0;
  auto request = greedy_request("thrower", prompt_of(10, 3), 60);
  request.sampling.n = 3;
  ASSERT_TRUE(fake.engine
                  ->submit(request,
                           [&](OutputEvent) {
                             ++calls;
                             throw std::runtime_error("the receiver broke");
                           })
                  .ok());
  ASSERT_TRUE(neighbour->wait());
  EXPECT_EQ(neighbour->output().tokens.size(), 60U);
  ASSERT_TRUE(fake.wait_idle());
  EXPECT_EQ(calls, 1);
  EXPECT_FALSE(fake.engine->failed());
  EXPECT_EQ(fake.engine->stats()->failed_requests, 1U);
}

TEST(Engine, OutOfMemoryInAStepFailsTheEngineAndTellsEverybody) {
  FakeEngine fake;
  Gate gate;  // until all are in: who comes after the failure is refused
  std::atomic<int> steps = 0;
  fake.model->on_forward = [&](const auto&) -> Status {
    gate.pass();
    if (++steps == 4) throw std::bad_alloc();
    return {};
  };
  std::vector<std::shared_ptr<Collector>> collectors;
  for (int i = 0; i < 20; ++i)
    collectors.push_back(fake.submit(greedy_request("r" + std::to_string(i), prompt_of(10, i), 50)));
  gate.open();
  for (auto& collector : collectors) {
    ASSERT_TRUE(collector->wait());
    EXPECT_EQ(collector->output().last.finish, FinishReason::error);
    EXPECT_TRUE(collector->complaints().empty());
  }
  EXPECT_TRUE(fake.engine->failed());
  EXPECT_EQ(fake.engine->submit(greedy_request("late", prompt_of(5), 5), [](OutputEvent) {}).code(),
            StatusCode::unavailable);
  EXPECT_EQ(fake.engine->flush_cache().code(), StatusCode::unavailable);
  EXPECT_TRUE(fake.engine->idle());
}

TEST(Engine, AFailingModelFailsTheEngine) {
  FakeEngine fake;
  fake.model->on_forward = [](const auto&) { return internal_error("a kernel refused"); };
  const auto output = fake.generate(greedy_request("r", prompt_of(5), 5));
  EXPECT_EQ(output.last.finish, FinishReason::error);
  EXPECT_NE(output.last.error.message().find("a kernel refused"), std::string::npos);
  EXPECT_TRUE(fake.engine->failed());
}

TEST(Engine, FlushForgetsPrefixesAndOnlyWhenIdle) {
  FakeEngine fake;
  fake.generate(greedy_request("r", prompt_of(40), 2));
  EXPECT_EQ(fake.generate(greedy_request("r", prompt_of(40), 2)).last.cached_tokens, 39);
  EXPECT_TRUE(fake.engine->flush_cache().ok());
  EXPECT_EQ(fake.generate(greedy_request("r", prompt_of(40), 2)).last.cached_tokens, 0);
  Gate gate;
  fake.model->on_forward = [&](const auto&) {
    gate.pass();
    return Status();
  };
  auto running = fake.submit(greedy_request("r", prompt_of(40), 2));
  EXPECT_EQ(fake.engine->flush_cache().code(), StatusCode::resource_exhausted);
  gate.open();
  EXPECT_TRUE(running->wait());
}

TEST(Engine, PrefixesCanBeSwitchedOff) {
  auto options = small_options();
  options.enable_prefix_cache = false;
  FakeEngine fake(options);
  fake.generate(greedy_request("r", prompt_of(40), 2));
  EXPECT_EQ(fake.generate(greedy_request("r", prompt_of(40), 2)).last.cached_tokens, 0);
  ASSERT_TRUE(fake.wait_idle());
  EXPECT_EQ(fake.engine->stats()->free_pages, fake.engine->stats()->total_pages);
}

TEST(Engine, NamespacesDoNotSharePrefixes) {
  FakeEngine fake;
  auto request = greedy_request("r", prompt_of(40), 2);
  request.cache_namespace = 1;
  fake.generate(request);
  request.cache_namespace = 2;
  EXPECT_EQ(fake.generate(request).last.cached_tokens, 0);
  EXPECT_EQ(fake.generate(request).last.cached_tokens, 39);
}

TEST(Engine, AnIdleEngineUsesNoCpu) {
  FakeEngine fake;
  fake.generate(greedy_request("r", prompt_of(10), 5));
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  const auto cpu_ms = [] {
    timespec t{};
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return static_cast<double>(t.tv_sec) * 1e3 + static_cast<double>(t.tv_nsec) * 1e-6;
  };
  const double before = cpu_ms();
  std::this_thread::sleep_for(std::chrono::milliseconds(400));
  EXPECT_LT(cpu_ms() - before, 20.0);
}

TEST(Engine, StatsCountWhatHappened) {
  FakeEngine fake;
  fake.generate(greedy_request("a", prompt_of(20), 5));
  fake.generate(greedy_request("b", prompt_of(20), 5));
  ASSERT_TRUE(fake.wait_idle());
  const auto stats = fake.engine->stats();
  EXPECT_EQ(stats->prompt_tokens, 40U);
  EXPECT_EQ(stats->cached_prompt_tokens, 19U);
  EXPECT_EQ(stats->generated_tokens, 10U);
  EXPECT_EQ(stats->finished_requests, 2U);
  EXPECT_EQ(stats->total_pages, 256);
  EXPECT_GT(stats->cached_pages, 0);
  ASSERT_FALSE(stats->attention.empty());
  uint64_t prefill_rows = 0;
  uint64_t decode_rows = 0;
  for (const auto& use : stats->attention) {
    EXPECT_EQ(use.plans, use.steps);  // once per step and class, not per layer
    EXPECT_FALSE(use.backend.empty());
    if (use.phase == "prefill") prefill_rows += use.rows;
    if (use.phase == "decode") decode_rows += use.rows;
  }
  EXPECT_EQ(prefill_rows, 21U);
  EXPECT_EQ(decode_rows, 8U);
}

TEST(EngineCreate, FillsInTheAutomaticValues) {
  auto options = small_options();
  options.max_total_tokens = 0;
  options.chunked_prefill_size = -1;
  FakeEngine fake(options);
  EXPECT_EQ(fake.engine->context_length(), 512);
  EXPECT_EQ(fake.engine->max_total_tokens(), 16 * 512);  // all running requests at full length
  EXPECT_EQ(fake.engine->options().max_total_tokens, 16 * 512);
  EXPECT_GT(fake.engine->options().kv_cache_bytes, 0);
  EXPECT_NE(fake.engine->memory_plan().find("KV pages"), std::string::npos);
  EXPECT_EQ(fake.generate(greedy_request("r", prompt_of(300), 3)).tokens.size(), 3U);
}

TEST(EngineCreate, ASmallPoolShortensTheContext) {
  auto options = small_options();
  options.max_total_tokens = 100;
  FakeEngine fake(options);
  EXPECT_EQ(fake.engine->context_length(), 100);
  EXPECT_EQ(fake.generate(greedy_request("r", prompt_of(60), 1000)).tokens.size(), 40U);
}

TEST(EngineCreate, BadOptionsAreNamed) {
  const auto message = [](auto set) {
    auto options = small_options();
    set(options);
    auto model =
        std::make_unique<FakeModel>(options.kv_dtype, std::clamp(options.page_size, 1, 256), options.pool);
    const auto created = Engine::create(std::move(model), nullptr, options);
    EXPECT_FALSE(created.ok());
    return created.status().message();
  };
  EXPECT_EQ(message([](auto& o) { o.page_size = 0; }).rfind("page_size is 0", 0), 0U);
  EXPECT_EQ(message([](auto& o) { o.page_size = 257; }).rfind("page_size is 257", 0), 0U);
  EXPECT_EQ(message([](auto& o) { o.chunked_prefill_size = 0; }).rfind("chunked_prefill_size is 0", 0), 0U);
  EXPECT_EQ(message([](auto& o) { o.max_running_requests = 0; }).rfind("max_running_requests", 0), 0U);
  EXPECT_EQ(message([](auto& o) { o.max_queued_requests = 0; }).rfind("max_queued_requests", 0), 0U);
  EXPECT_EQ(message([](auto& o) { o.mem_fraction_static = 0; }).rfind("mem_fraction_static", 0), 0U);
  EXPECT_EQ(message([](auto& o) { o.context_length = 513; }).rfind("context_length is 513", 0), 0U);
  EXPECT_NE(message([](auto& o) {
              o.max_total_tokens = 0;
              o.kv_cache_bytes = 10;
            }).find("does not hold one page"),
            std::string::npos);
  EXPECT_NE(message([](auto& o) { o.attention.backend = "nonsense"; }).find("nonsense"), std::string::npos);
}

}  // namespace
}  // namespace bifocal::engine
