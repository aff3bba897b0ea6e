//! How figures are written: the text format of Prometheus, version 0.0.4, or OpenMetrics 1.0.

use std::fmt::Write;

/// A figure, by a name without the program's prefix and without the suffix of counters.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    pub name: &'static str,
    pub help: &'static str,
    pub kind: Kind,
    pub value: u64,
}

/// What a figure does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It only grows.
    Counter,
    /// It comes and goes.
    Gauge,
}

/// How figures are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// What every scraper reads.
    Text,
    OpenMetrics,
}

impl Format {
    /// What `Accept` asks for: OpenMetrics if that is named and no less wanted than plain text, RFC 9110, 12.5.1.
    pub fn wanted_by(accept: &str) -> Self {
        let (mut open, mut text) = (0.0_f32, 0.0_f32);
        for range in accept.split(',') {
            let mut parts = range.split(';').map(str::trim);
            let name = parts.next().unwrap_or_default().to_ascii_lowercase();
            let weight = parts.find_map(|it| it.strip_prefix("q=")).map_or(Ok(1.0), str::parse);
            let weight = weight.unwrap_or(0.0);
            match name.as_str() {
                "application/openmetrics-text" => open = open.max(weight),
                "text/plain" => text = text.max(weight),
                _ => {}
            }
        }
        if open > 0.0 && open >= text { Self::OpenMetrics } else { Self::Text }
    }

    pub fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// The figures.
    pub fn write(self, metrics: &[Metric]) -> String {
        let mut text = String::new();
        for Metric { name, help, kind, value } in metrics {
            let (kind, suffix) = match kind {
                Kind::Counter => ("counter", "_total"),
                Kind::Gauge => ("gauge", ""),
            };
            let sample = format!("{PREFIX}{name}{suffix}");
            // Only OpenMetrics has a family of counters go by a name without the suffix.
            let family = match self {
                Self::Text => sample.clone(),
                Self::OpenMetrics => format!("{PREFIX}{name}"),
            };
            // A string takes what is written to it.
            let _ =
                write!(text, "# HELP {family} {help}.\n# TYPE {family} {kind}\n{sample} {value}\n");
        }
        if self == Self::OpenMetrics {
            text += "# EOF\n";
        }
        text
    }
}

const PREFIX: &str = "doorbell_";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scrapers_get_what_they_read() {
        // Prometheus 2 and 3, VictoriaMetrics, curl, a browser, and nothing.
        for (accept, format) in [
            (
                "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
                 text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
                Format::OpenMetrics,
            ),
            (
                "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,\
                 text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1",
                Format::OpenMetrics,
            ),
            ("text/plain;version=0.0.4;q=1,*/*;q=0.1", Format::Text),
            ("application/openmetrics-text;q=0.2, text/plain", Format::Text),
            ("application/openmetrics-text; q=0", Format::Text),
            ("*/*", Format::Text),
            ("text/html,application/xhtml+xml,*/*;q=0.8", Format::Text),
            ("", Format::Text),
            (";;q=,,=\u{1f980}", Format::Text),
        ] {
            assert_eq!(Format::wanted_by(accept), format, "{accept}");
        }
    }

    #[test]
    fn counters_have_their_suffix() {
        let metrics = [
            Metric { name: "heaps", help: "Heaps", kind: Kind::Counter, value: 7 },
            Metric { name: "batches", help: "Batches", kind: Kind::Gauge, value: u64::MAX },
        ];
        assert_eq!(
            Format::Text.write(&metrics),
            "# HELP doorbell_heaps_total Heaps.\n# TYPE doorbell_heaps_total counter\ndoorbell_heaps_total 7\n\
             # HELP doorbell_batches Batches.\n# TYPE doorbell_batches gauge\n\
             doorbell_batches 18446744073709551615\n"
        );
        let open = Format::OpenMetrics.write(&metrics[..1]);
        assert_eq!(
            open,
            "# HELP doorbell_heaps Heaps.\n# TYPE doorbell_heaps counter\ndoorbell_heaps_total 7\n# EOF\n"
        );
    }
}
