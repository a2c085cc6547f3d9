#include "server/http/connection.h"

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/buffer.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <algorithm>

namespace bifocal::server::http {
namespace asio = boost::asio;
using asio::ip::tcp;
using ErrorCode = boost::system::error_code;
using State = RequestParser::State;

// A rule for the coroutines below: the outermost block declares a variable, and no condition contains a
// co_await. g++ 12 lays out the frame wrongly otherwise (GCC bug 106188), and the coroutine resumes at a wild
// address.

namespace {

// What a client may send ahead of the answer it waits for. More than this ends the connection: unread bytes
// would hide its going away.
constexpr size_t kMaxPipelinedBytes = size_t{40} << 10;
// After an early refusal the rest of the request is read and dropped for a moment, or the kernel would answer
// the unread bytes with a reset that can destroy the refusal on its way.
constexpr auto kLinger = std::chrono::milliseconds(1000);
constexpr size_t kLingerBytes = size_t{16} << 20;

auto catch_error(ErrorCode& error) {
  return asio::redirect_error(asio::use_awaitable, error);
}

}  // namespace

Connection::Connection(tcp::socket socket, std::shared_ptr<Shared> shared)
    : socket_(std::move(socket)),
      event_(socket_.get_executor()),
      shared_(std::move(shared)),
      parser_(shared_->options.parser) {
  event_.expires_at(asio::steady_timer::time_point::max());
}

asio::awaitable<void> Connection::serve() {
  bool go_on = true;
  deadline_ = Clock::now() + shared_->options.head_timeout;
  while (!closed_) {
    go_on = co_await read_head();
    if (!go_on) break;
    Request& request = parser_.request();
    std::optional<Response> refused = shared_->application.screen(request);
    const bool keeps = request.keep_alive && !shared_->end_keep_alive;
    if (refused && keeps && !refused->close && parser_.state() == State::complete) {
      // No body to skip: the connection goes on.
      go_on = co_await send(render(*refused, request, true, ""));
      if (!go_on) break;
      next_request();
      continue;
    }
    if (!refused) refused = reserve_body();
    if (!refused) {
      const bool has_body = co_await read_body();
      if (!has_body) refused = refusal();
    }
    if (refused) {
      co_await refuse(std::move(*refused));
      break;
    }
    go_on = co_await answer();
    release_body();
    if (!go_on) break;
    next_request();
  }
  release_body();
  end();
}

asio::awaitable<void> Connection::turn_away() {
  Response busy = shared_->application.refusal(503, "too many connections");
  busy.headers.push_back({"Retry-After", "1"});
  co_await refuse(std::move(busy));
  end();
}

void Connection::sweep(Clock::time_point now) {
  if (closed_) return;
  if (exchange_) {
    exchange_->tick(now);
    if (writing_ && now - last_progress_ > shared_->options.stall_timeout) {
      exchange_->disconnect(DisconnectReason::client_stalled);
      close();
    }
  } else if (now > deadline_) {
    timed_out_ = true;
    ErrorCode ignored;
    socket_.cancel(ignored);
  }
  if (idle_ && shared_->end_keep_alive) close();
}

void Connection::close() {
  closed_ = true;
  if (exchange_) exchange_->disconnect(DisconnectReason::shutdown);
  ErrorCode ignored;
  socket_.close(ignored);
  event_.cancel();
}

void Connection::end() {
  ErrorCode ignored;
  socket_.shutdown(tcp::socket::shutdown_both, ignored);
  socket_.close(ignored);
  closed_ = true;
}

// What was sent behind the request just answered is the next one, and its clock runs already.
void Connection::next_request() {
  parser_.next();
  idle_ = parser_.buffered_bytes() == 0;
  const HttpOptions& options = shared_->options;
  deadline_ = Clock::now() + (idle_ ? options.keep_alive_timeout : options.head_timeout);
}

asio::awaitable<bool> Connection::read_some() {
  ErrorCode error;
  const size_t n = co_await socket_.async_read_some(asio::buffer(scratch_), catch_error(error));
  parser_.append({scratch_.data(), n});
  co_return !error && !closed_;
}

asio::awaitable<bool> Connection::read_head() {
  bool more = true;
  while (parser_.parse_head() == State::head) {
    more = co_await read_some();
    if (!more) co_return false;
    if (idle_) {  // the first bytes of the next request: from here on its head has its own deadline
      idle_ = false;
      deadline_ = Clock::now() + shared_->options.head_timeout;
    }
  }
  idle_ = false;
  if (parser_.state() == State::failed) {
    co_await refuse(refusal());
    co_return false;
  }
  co_return true;
}

std::optional<Response> Connection::reserve_body() {
  if (parser_.state() != State::body) return std::nullopt;
  const HttpOptions& options = shared_->options;
  const uint64_t wanted = parser_.content_length().value_or(options.parser.max_body_bytes);
  if (shared_->body_bytes + wanted > options.max_total_body_bytes) {
    Response busy = shared_->application.refusal(503, "too many request bodies at once");
    busy.headers.push_back({"Retry-After", "1"});
    return busy;
  }
  reserved_bytes_ = wanted;
  shared_->body_bytes += wanted;
  return std::nullopt;
}

void Connection::release_body() {
  shared_->body_bytes -= reserved_bytes_;
  reserved_bytes_ = 0;
}

asio::awaitable<bool> Connection::read_body() {
  const HttpOptions& options = shared_->options;
  const auto limit = Clock::now() + options.body_total_timeout;
  if (parser_.state() == State::body && parser_.expects_continue() && parser_.buffered_bytes() == 0) {
    deadline_ = Clock::now() + options.body_idle_timeout;
    const bool sent = co_await send("HTTP/1.1 100 Continue\r\n\r\n");
    if (!sent) co_return false;
  }
  while (parser_.state() == State::body && parser_.parse_body() == State::body) {
    deadline_ = std::min(limit, Clock::now() + options.body_idle_timeout);
    const bool more = co_await read_some();
    if (!more) co_return false;
  }
  co_return parser_.state() == State::complete;
}

Response Connection::refusal() {
  if (parser_.state() == State::failed) {
    return shared_->application.refusal(parser_.failure().status, parser_.failure().reason);
  }
  if (timed_out_) return shared_->application.refusal(408, "the request took too long to arrive");
  return shared_->application.refusal(400, "the request ended early");
}

asio::awaitable<void> Connection::refuse(Response response) {
  deadline_ = Clock::now() + kLinger;
  timed_out_ = false;
  const std::string bytes = render(response, parser_.request(), false, "");
  const bool sent = co_await send(bytes);
  if (!sent) co_return;
  ErrorCode error;
  socket_.shutdown(tcp::socket::shutdown_send, error);
  for (size_t dropped = 0; !error && dropped < kLingerBytes && !timed_out_;) {
    const size_t n = co_await socket_.async_read_some(asio::buffer(scratch_), catch_error(error));
    dropped += n;
  }
}

asio::awaitable<bool> Connection::answer() {
  auto wake = [weak = weak_from_this(), executor = socket_.get_executor()] {
    asio::post(executor, [weak] {
      if (const auto self = weak.lock()) self->event_.cancel();
    });
  };
  exchange_ =
      std::make_shared<Exchange>(std::move(parser_.request()), shared_->options.exchange, std::move(wake));
  deadline_ = Clock::time_point::max();
  ++shared_->open_exchanges;
  const ExchangeGuard guard{*this};
  shared_->application.handle(exchange_);
  std::string output;
  ErrorCode ignored;
  bool sent = true;
  while (sent && !closed_) {
    const bool last = exchange_->finished();  // asked first: what is taken after it is all there will be
    if (exchange_->take_output(output)) {
      sent = co_await send(output);
      exchange_->output_sent();
    } else if (last || gone_) {
      break;
    } else {
      watch();
      co_await event_.async_wait(catch_error(ignored));
    }
  }
  if (!exchange_->finished() || !sent) exchange_->disconnect(DisconnectReason::client_gone);
  const bool go_on = sent && !gone_ && !closed_ && exchange_->finished() && exchange_->keep_alive() &&
                     !shared_->end_keep_alive;
  shared_->application.finished(*exchange_);
  leave_exchange();
  co_await stop_watching();
  co_return go_on && !gone_;
}

void Connection::leave_exchange() {
  if (!exchange_) return;
  exchange_->detach();
  exchange_.reset();
  --shared_->open_exchanges;
}

// Reads while an answer is being made: nothing but the end of the connection, or the client's next request,
// can arrive. The end, be it of the sending side only, means that nobody waits for the answer any more.
void Connection::watch() {
  if (watching_ || gone_ || closed_) return;
  watching_ = true;
  auto handler = [self = shared_from_this()](ErrorCode error, size_t n) {
    self->watching_ = false;
    self->parser_.append({self->scratch_.data(), n});
    const bool flooded = self->parser_.buffered_bytes() > kMaxPipelinedBytes;
    if ((error && error != asio::error::operation_aborted) || flooded) {
      self->gone_ = true;
      if (self->exchange_) self->exchange_->disconnect(DisconnectReason::client_gone);
    } else if (!error && self->exchange_) {
      self->watch();
    }
    self->event_.cancel();
  };
  socket_.async_read_some(asio::buffer(scratch_),
                          asio::bind_cancellation_slot(stop_watching_.slot(), std::move(handler)));
}

asio::awaitable<void> Connection::stop_watching() {
  ErrorCode ignored;
  if (watching_) stop_watching_.emit(asio::cancellation_type::all);
  while (watching_) co_await event_.async_wait(catch_error(ignored));
}

asio::awaitable<bool> Connection::send(std::string_view bytes) {
  writing_ = true;
  last_progress_ = Clock::now();
  ErrorCode error;
  while (!bytes.empty() && !error && !closed_) {
    const size_t n =
        co_await socket_.async_write_some(asio::buffer(bytes.data(), bytes.size()), catch_error(error));
    bytes.remove_prefix(n);
    last_progress_ = Clock::now();
  }
  writing_ = false;
  co_return bytes.empty();
}

}  // namespace bifocal::server::http
