// spead2's C++ sender at its best: batches of ready-made heaps, two of them in flight, as in its tutorial.
//
//   send_batches HOST PORT HEAP-SIZE PACKET-SIZE SECONDS [BYTES-PER-SECOND]
//
// sends for so long and prints, as JSON, GB of payload a second of time and of processor time: what
// benches/cost.rs prints of doorbell. A rate counts bytes of SPEAD. benches/spead2/build.sh builds it.
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <future>
#include <memory>
#include <utility> // which asio.hpp of Boost 1.74 forgets
#include <vector>

#include <boost/asio.hpp>
#include <sys/resource.h>

#include <spead2/common_thread_pool.h>
#include <spead2/send_heap.h>
#include <spead2/send_stream.h>
#include <spead2/send_udp.h>

namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t batch_bytes = 512 << 10;
constexpr std::size_t batches_in_flight = 2;

double seconds_since(Clock::time_point start) {
    return std::chrono::duration<double>(Clock::now() - start).count();
}

// Of all threads, in user space and in the kernel.
double cpu_seconds() {
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    auto seconds = [](const timeval &time) { return time.tv_sec + time.tv_usec * 1e-6; };
    return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

} // namespace

int main(int argc, char **argv) {
    if (argc != 6 && argc != 7) {
        std::fprintf(stderr, "usage: %s HOST PORT HEAP-SIZE PACKET-SIZE SECONDS [BYTES-PER-SECOND]\n", argv[0]);
        return 2;
    }
    const std::size_t heap_size = std::strtoull(argv[3], nullptr, 10);
    const std::size_t packet_size = std::strtoull(argv[4], nullptr, 10);
    const double duration = std::strtod(argv[5], nullptr);
    const double rate = argc == 7 ? std::strtod(argv[6], nullptr) : 0.0; // 0: none
    const std::size_t heaps_per_batch = std::max<std::size_t>(1, batch_bytes / heap_size);

    const spead2::flavour flavour(4, 64, 40);
    std::vector<std::uint8_t> samples(heap_size * heaps_per_batch, 7);
    std::vector<std::unique_ptr<spead2::send::heap>> heaps;
    std::vector<spead2::send::heap_reference> batch;
    for (std::size_t index = 0; index < heaps_per_batch; index++) {
        heaps.push_back(std::make_unique<spead2::send::heap>(flavour));
        heaps.back()->add_item(0x1600, 0);
        heaps.back()->add_item(0x3300, samples.data() + index * heap_size, heap_size, true);
        batch.emplace_back(*heaps.back());
    }

    spead2::thread_pool pool(1);
    const boost::asio::ip::udp::endpoint to(
        boost::asio::ip::make_address(argv[1]), std::uint16_t(std::atoi(argv[2])));
    auto config = spead2::send::stream_config()
                      .set_max_packet_size(packet_size)
                      .set_rate(rate)
                      .set_max_heaps(batches_in_flight * heaps_per_batch);
    spead2::send::udp_stream stream(pool, {to}, config);
    std::deque<std::future<spead2::item_pointer_t>> in_flight;
    auto submit = [&] {
        in_flight.push_back(stream.async_send_heaps(
            batch.begin(), batch.end(), boost::asio::use_future, spead2::send::group_mode::SERIAL));
    };
    auto complete = [&] {
        in_flight.front().get();
        in_flight.pop_front();
    };
    submit();
    complete();

    const auto start = Clock::now();
    const double cpu = cpu_seconds();
    std::uint64_t batches = 0;
    while (seconds_since(start) < duration) {
        while (in_flight.size() < batches_in_flight)
            submit();
        complete();
        batches++;
    }
    for (; !in_flight.empty(); batches++)
        complete();
    const double bytes = double(batches) * double(heap_size * heaps_per_batch);
    std::printf("{\"heap\":%zu,\"gb_per_s\":%.4f,\"gb_per_cpu_s\":%.4f}\n", heap_size,
                bytes / seconds_since(start) * 1e-9, bytes / (cpu_seconds() - cpu) * 1e-9);
}
