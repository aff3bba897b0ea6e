//! `doorbell devices`.

mod device;
mod guids;
mod interface;
mod obstacle;
mod process;

use std::env;
use std::fmt;
use std::process::ExitCode;

use doorbell::backend::interface::Interface;
use doorbell::backend::verbs::device::{LinkLayer, RawPackets, RdmaDevice, RdmaPort};
use serde::Serialize;

use self::device::Device;
use self::guids::Guids;
use self::interface::NetworkInterface;
use self::obstacle::Obstacle;
use self::process::Process;
use super::args::DevicesArguments;
use super::exit::Failure;
use super::standard_output;

/// Shows what there is, and what works. That nothing does is no failure.
pub fn run(arguments: &DevicesArguments) -> Result<ExitCode, Failure> {
    let survey = Survey::take();
    let text = match arguments.json {
        true => serde_json::to_string(&survey).map_err(|e| Failure::Usage(e.to_string()))? + "\n",
        false => survey.to_string(),
    };
    standard_output::print(text.as_bytes());
    Ok(ExitCode::SUCCESS)
}

/// What there is, and what works.
#[derive(Debug, Serialize)]
struct Survey {
    rdma_devices: Vec<Device>,
    interfaces: Vec<NetworkInterface>,
    process: Process,
    udp: Udp,
    verbs: Verbs,
}

#[derive(Debug, Serialize)]
struct Udp {
    works: bool,
    /// Packets that the kernel segments out of one message, on the interface that does best.
    gso_segments: u32,
}

#[derive(Debug, Serialize)]
struct Verbs {
    works: bool,
    /// Interfaces that it sends from.
    interfaces: Vec<String>,
    /// What stops it, or some of it.
    obstacles: Vec<Obstacle>,
}

impl Survey {
    fn take() -> Self {
        let found = RdmaDevice::all();
        let devices = found.as_deref().unwrap_or_default();
        let interfaces: Vec<NetworkInterface> = Interface::all()
            .inspect_err(|error| tracing::warn!("{error}"))
            .unwrap_or_default()
            .iter()
            .map(|interface| NetworkInterface::describe(interface, devices))
            .collect();
        let raw_packets: Vec<Vec<RawPackets>> = devices
            .iter()
            .map(|device| device.ports.iter().map(|it| probe(device, it)).collect())
            .collect();
        let process = Process::this();
        let unavailable = found.as_ref().err();
        let guids = Guids::read();
        Self {
            rdma_devices: devices
                .iter()
                .zip(&raw_packets)
                .map(|(device, raw_packets)| Device::describe(device, raw_packets, &guids))
                .collect(),
            udp: Udp {
                works: true,
                gso_segments: interfaces.iter().filter_map(|it| it.gso_segments).max().unwrap_or(1),
            },
            verbs: {
                let mut verbs = Verbs::assess(devices, &raw_packets, &process);
                let none = unavailable.map(|why| Obstacle::unavailable(why, &interfaces));
                verbs.obstacles.splice(0..0, none);
                verbs
            },
            interfaces,
            process,
        }
    }
}

impl fmt::Display for Survey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "RDMA devices")?;
        self.rdma_devices.iter().try_for_each(|device| device.fmt(f))?;
        if self.rdma_devices.is_empty() {
            writeln!(f, "  none")?;
        }
        writeln!(f, "\nNetwork interfaces")?;
        write_table(f, &self.interfaces)?;
        writeln!(f, "\nWhat works here")?;
        match self.udp.gso_segments {
            1 => writeln!(f, "  udp    yes; this kernel takes packets one by one (no GSO)")?,
            segments => writeln!(
                f,
                "  udp    yes; the kernel cuts up to {segments} packets out of a message (GSO)"
            )?,
        }
        self.verbs.fmt(f)?;
        if self.rdma_devices.is_empty() {
            let nothing =
                "If there is no RDMA NIC, there is nothing to do: udp sends the same streams.";
            writeln!(f, "\n  {nothing}")?;
        }
        Ok(())
    }
}

impl Verbs {
    fn assess(devices: &[RdmaDevice], raw_packets: &[Vec<RawPackets>], process: &Process) -> Self {
        let ports: Vec<(&RdmaDevice, &RdmaPort, &RawPackets)> = devices
            .iter()
            .zip(raw_packets)
            .flat_map(|(device, found)| {
                device.ports.iter().zip(found).map(move |(port, found)| (device, port, found))
            })
            .collect();
        let able = |port: &RdmaPort, found: &RawPackets| {
            port.can_send() && matches!(found, RawPackets::Permitted)
        };
        let mut interfaces: Vec<String> = Vec::new();
        for (_, port, _) in ports.iter().filter(|(_, port, found)| able(port, found)) {
            interfaces.extend(port.interfaces.iter().cloned());
        }
        let refused = ports.iter().any(|(_, _, found)| matches!(found, RawPackets::NotPermitted));
        let permitted = ports.iter().any(|(_, _, found)| matches!(found, RawPackets::Permitted));
        let mut of_process = Obstacle::of_process(process, refused, &env::current_exe());
        // What a device permits needs no capability.
        of_process.retain(|it| !permitted || it.code != "no-cap-net-raw");
        let works = !interfaces.is_empty() && of_process.is_empty();
        let obstacles = devices.iter().filter_map(Obstacle::of_device);
        let of_ports =
            ports.iter().flat_map(|(device, port, found)| Obstacle::of_port(device, port, found));
        Self { works, interfaces, obstacles: obstacles.chain(of_ports).chain(of_process).collect() }
    }
}

impl fmt::Display for Verbs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stops = match self.obstacles.len() {
            0 => "",
            _ if self.works => ". What stops the rest, and what to do:",
            _ => ". What stops it, and what to do:",
        };
        match self.works {
            true => writeln!(f, "  verbs  yes, on {}{stops}", self.interfaces.join(", "))?,
            false => writeln!(f, "  verbs  no{stops}")?,
        }
        for (number, obstacle) in (1..).zip(&self.obstacles) {
            writeln!(f)?;
            write_wrapped(f, &format!("  {number:>3}. "), &obstacle.cause)?;
            for line in &obstacle.remedy {
                write_wrapped(f, "         ", line)?;
            }
        }
        Ok(())
    }
}

/// Other links have no raw packets, and are not asked.
fn probe(device: &RdmaDevice, port: &RdmaPort) -> RawPackets {
    match port.link_layer {
        LinkLayer::Ethernet => device.raw_packets(port),
        _ => RawPackets::Unsupported,
    }
}

fn write_table(f: &mut fmt::Formatter<'_>, interfaces: &[NetworkInterface]) -> fmt::Result {
    let dash = || "-".to_owned();
    let head = ["name", "link", "MTU", "GSO", "RDMA", "driver", "addresses"].map(str::to_owned);
    let mut rows = vec![head];
    for it in interfaces {
        let first = it.addresses.first().map_or_else(dash, ToString::to_string);
        let mut link = it.state.clone();
        link.extend(it.speed_gbps.map(|speed| format!(" {speed} Gb/s")));
        rows.push([
            it.name.clone(),
            link,
            it.mtu.to_string(),
            match it.gso_segments {
                Some(1) => "no".into(),
                Some(segments) => segments.to_string(),
                None => dash(),
            },
            match (&it.rdma_device, it.rdma_port) {
                (Some(device), Some(port)) => format!("{device}/{port}"),
                _ => dash(),
            },
            it.driver.clone().unwrap_or_else(dash),
            first,
        ]);
        for address in it.addresses.iter().skip(1) {
            let mut row = [const { String::new() }; COLUMNS];
            row[COLUMNS - 1] = address.to_string();
            rows.push(row);
        }
    }
    let width =
        |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; COLUMNS] = std::array::from_fn(width);
    for row in &rows {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        writeln!(f, "  {}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
    }
    Ok(())
}

/// Writes words in lines that are short, all but the first as far in as `lead` is long.
fn write_wrapped(f: &mut fmt::Formatter<'_>, lead: &str, text: &str) -> fmt::Result {
    let indent = " ".repeat(lead.len());
    let leads = [lead].into_iter().chain(std::iter::repeat(indent.as_str()));
    let lines = wrap(text, WIDTH - lead.len());
    leads.zip(lines).try_for_each(|(lead, line)| writeln!(f, "{lead}{line}"))
}

fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().expect("there is always one");
        match line.is_empty() || line.chars().count() + 1 + word.chars().count() <= width {
            true if line.is_empty() => *line = word.to_owned(),
            true => line.extend([" ", word]),
            false => lines.push(word.to_owned()),
        }
    }
    lines
}

const COLUMNS: usize = 7;
/// Columns of text that anybody's terminal shows.
const WIDTH: usize = 96;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_as_short_as_their_words_allow() {
        assert_eq!(wrap("a bc def", 4), ["a bc", "def"]);
        assert_eq!(wrap("a longer-word b", 4), ["a", "longer-word", "b"]);
        assert_eq!(wrap("", 4), [""]);
    }
}
