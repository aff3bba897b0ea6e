//! `doorbell bench`.

mod load;
mod measure;
mod plot;
mod report;
mod sink;
mod sweep;
mod table;
mod variant;

use std::process::ExitCode;
use std::thread;

use indicatif::{ProgressBar, ProgressStyle};

pub use self::sink::SinkKind;

use self::report::BenchReport;
use self::sink::Sink;
use self::sweep::Sweep;
use super::args::BenchArguments;
use super::exit::Failure;
use super::output::output;
use super::standard_error;

/// Measures, and shows what came of it.
pub fn run(arguments: BenchArguments) -> Result<ExitCode, Failure> {
    let plot = arguments.plot.as_ref();
    let plot = plot
        .map(|path| output("--plot", path, &["svg", "png"], arguments.force))
        .transpose()
        .map_err(|error| Failure::Usage(error.to_string()))?;
    // The thread may move to a network of its own, which the rest of the program does not see and
    // which ends with it.
    let measurement = thread::scope(|scope| {
        let measurement = thread::Builder::new().spawn_scoped(scope, || measure(&arguments))?;
        Ok(measurement.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    });
    let report = measurement.map_err(|error| Failure::Thread { name: "bench".into(), error })??;
    if arguments.json {
        say!("{}", serde_json::to_string(&report).map_err(|e| Failure::Usage(e.to_string()))?);
    } else {
        table::print(&report);
    }
    if let Some(plot) = &plot {
        plot::draw(&report, plot).map_err(|error| {
            Failure::Usage(format!("cannot draw {}: {error}", plot.path().display()))
        })?;
    }
    Ok(ExitCode::SUCCESS)
}

fn measure(arguments: &BenchArguments) -> Result<BenchReport, Failure> {
    let largest = arguments.packet_sizes.iter().map(|size| size.bytes()).max();
    let sink = Sink::open(&arguments.sink, largest)?;
    let sweep = Sweep::prepare(arguments, &sink)?;
    let bar = bar(sweep.samples());
    let rows = sweep.run(|what| {
        bar.set_message(what.to_owned());
        bar.inc(1);
    });
    bar.finish_and_clear();
    Ok(BenchReport {
        sink: sink.into(),
        seconds: arguments.seconds.as_secs_f64(),
        repeat: arguments.repeat,
        left_out: sweep.left_out,
        rows: rows?,
    })
}

/// A bar on a terminal, none elsewhere.
fn bar(samples: u64) -> ProgressBar {
    // Few draws: each takes time from what is measured.
    let target = standard_error::draw_target(true, DRAWS_PER_SECOND);
    let bar = ProgressBar::with_draw_target(Some(samples), target);
    match ProgressStyle::with_template("{bar:12.cyan/blue} {percent:>3}%  {eta} left  {wide_msg}") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

const DRAWS_PER_SECOND: u8 = 4;
