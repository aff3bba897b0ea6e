//! The table on the terminal.

use std::io::IsTerminal;

use super::report::{BenchReport, Row, binary};

/// Prints a sweep: a table for each packet limit, a group of rows for each heap size.
pub fn print(report: &BenchReport) {
    let styled = std::io::stdout().is_terminal();
    say!("into      {} ({})", report.sink.description, report.sink.address);
    say!(
        "measured  {} x {} s each, all ways in turn; medians, and from the least to the most",
        report.repeat,
        report.seconds
    );
    for left_out in &report.left_out {
        say!("left out  {left_out}");
    }
    for rows in report.rows.chunk_by(|a, b| a.packet_limit == b.packet_limit) {
        say!("\npackets of up to {} bytes of SPEAD", rows[0].packet_limit);
        let header = line(&[
            "heap", "way", "GB/s", "spread", "ceiling", "of it", "Mpkt/s", "CPU s/GB", "calls",
            "pkt/msg",
        ]);
        say!("{}", style(&header, DIM, styled));
        for group in rows.chunk_by(|a, b| a.heap_bytes == b.heap_bytes) {
            print_group(group, styled);
        }
    }
    say!("\n{FOOTER}");
    let share = report.core_share();
    // A socket into a private sink never waits; one on a real link does when that is full.
    if report.sink.kind != "host" && share < BUSY {
        say!(
            "busy      the sending thread had a core for {:.0}% of the time: other programs, or the \
             hypervisor,\n          make these figures low",
            100.0 * share
        );
    }
}

/// Rows of one heap size: the fastest in bold.
fn print_group(rows: &[Row], styled: bool) {
    let best = rows.iter().map(|row| row.gb_per_s.median).fold(0.0, f64::max);
    for (index, row) in rows.iter().enumerate() {
        let heap = if index == 0 { binary(row.heap_bytes) } else { String::new() };
        let line = line(&[
            &heap,
            &row.name(),
            &format!("{:.2}", row.gb_per_s.median),
            &format!("{:.2}..{:.2}", row.gb_per_s.min, row.gb_per_s.max),
            &format!("{:.2}", row.ceiling_gb_per_s.median),
            &format!("{:.0}%", 100.0 * row.of_ceiling.median),
            &format!("{:.2}", row.packets_per_s * 1e-6),
            &format!("{:.3}", row.cpu_seconds_per_gb),
            &format!("{:.1}", row.doorbells_per_batch),
            &format!("{:.1}", row.packets_per_message),
        ]);
        let bold = styled && rows.len() > 1 && row.gb_per_s.median == best;
        say!("{}", style(&line, BOLD, bold));
    }
}

/// Columns, the second to the left and all others to the right.
fn line(cells: &[&str; WIDTHS.len()]) -> String {
    let mut line = String::new();
    for (index, (cell, width)) in cells.iter().zip(WIDTHS).enumerate() {
        line += &match index {
            1 => format!("  {cell:<width$}"),
            _ => format!("{cell:>width$}"),
        };
    }
    line
}

fn style(text: &str, code: &str, styled: bool) -> String {
    if styled { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
}

const WIDTHS: [usize; 10] = [9, 20, 7, 14, 9, 7, 8, 10, 7, 9];
const BOLD: &str = "1";
const DIM: &str = "2";
/// Share of a core below which a person should know.
const BUSY: f64 = 0.95;
const FOOTER: &str = "\
ceiling   the same packets ready-made, through the backend alone: nothing stamped or accounted for
calls     system calls, or doorbells, for a batch of 512 KiB; pkt/msg: packets in each message
CPU       of the sending thread, user and system; benches/instructions.sh counts instructions";
