// A server with the three APIs whose every token is "x" and which never thinks.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "server/http/http_server.h"

namespace bifocal::bench {

class FakeServer final : public server::http::Application {
 public:
  FakeServer();
  std::string url() const;

  // Requests to generate wait until so many are there, and are then answered together.
  void set_group(int size) { group_ = size; }
  // Every n-th request to generate is refused; 0: none.
  void fail_every(int n) { fail_every_ = n; }

  int most_at_once() const { return most_at_once_; }
  int num_requests() const { return num_requests_; }  // to generate
  std::vector<std::string> posts() const;             // paths of the others

  std::optional<server::http::Response> screen(server::http::Request&) override { return std::nullopt; }
  void handle(const std::shared_ptr<server::http::Exchange>& exchange) override;
  server::http::Response refusal(int status, std::string_view reason) override;
  void finished(const server::http::Exchange& exchange) override;
  void connections_changed(int) override {}

 private:
  std::atomic<int> group_{1};
  std::atomic<int> fail_every_{0};
  std::atomic<int> at_once_{0};
  std::atomic<int> most_at_once_{0};
  std::atomic<int> num_requests_{0};
  mutable std::mutex mutex_;
  std::vector<std::string> posts_;
  std::vector<std::shared_ptr<server::http::Exchange>> waiting_;  // I/O thread
  std::unique_ptr<server::http::HttpServer> server_;              // last: stops before the rest goes
};

}  // namespace bifocal::bench
