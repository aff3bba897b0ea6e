//! The drawing: throughput over heap size, a panel for each packet limit.

use std::error::Error;
use std::ops::Range;

use doorbell::output::Output;
use plotters::coord::Shift;
use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::FontTransform;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg::fontdb::{Family, Query};
use resvg::usvg::{Options, Tree};

use super::measure::Spread;
use super::report::{BenchReport, Row, binary};

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Plane = Cartesian2d<HeapSizes, RangedCoordf64>;

/// Draws a sweep into a file: SVG, or PNG if its name ends so.
pub fn draw(report: &BenchReport, output: &Output) -> Result<(), Box<dyn Error>> {
    let mut drawing = String::new();
    draw_into(&mut drawing, report)?;
    let is_png = output.path().extension().is_some_and(|it| it.eq_ignore_ascii_case("png"));
    let bytes = if is_png { pixels(&drawing)? } else { drawing.into_bytes() };
    Ok(output.write(&bytes)?)
}

/// A drawing as PNG, twice as large as in SVG.
fn pixels(drawing: &str) -> Result<Vec<u8>, Box<dyn Error>> {
    let mut options = Options::default();
    let fonts = options.fontdb_mut();
    fonts.load_system_fonts();
    let Some(font) = fonts.faces().next() else {
        return Err(
            "there is no font to write with: install fonts-dejavu-core, or draw an .svg".into()
        );
    };
    let family = font.families.first().map(|(name, _)| name.clone());
    let is_there = |name: &str| {
        let family = [Family::Name(name)];
        fonts.query(&Query { families: &family, ..Query::default() }).is_some()
    };
    let usual = USUAL_FONTS.into_iter().find(|name| is_there(name)).map(str::to_owned);
    if let Some(family) = usual.or(family) {
        fonts.set_sans_serif_family(family);
    }
    let tree = Tree::from_str(drawing, &options)?;
    let size = tree.size().to_int_size().scale_by(SCALE).ok_or("it has no size")?;
    let mut pixels = Pixmap::new(size.width(), size.height()).ok_or("it is too large")?;
    resvg::render(&tree, Transform::from_scale(SCALE, SCALE), &mut pixels.as_mut());
    Ok(pixels.encode_png()?)
}

fn draw_into(drawing: &mut String, report: &BenchReport) -> Result<(), Box<dyn Error>> {
    let panels: Vec<&[Row]> =
        report.rows.chunk_by(|a, b| a.packet_limit == b.packet_limit).collect();
    let height = TITLE_HEIGHT + PANEL_HEIGHT * panels.len() as u32;
    let root = SVGBackend::with_string(drawing, (WIDTH, height)).into_drawing_area();
    root.fill(&WHITE)?;
    let (title, rest) = root.split_vertically(TITLE_HEIGHT);
    draw_title(report, &title)?;
    // One scale, so that panels compare.
    let most = |row: &Row| row.gb_per_s.max.max(row.ceiling_gb_per_s.max);
    let top = report.rows.iter().map(most).fold(0.0, f64::max) * HEADROOM;
    for (panel, rows) in rest.split_evenly((panels.len().max(1), 1)).iter().zip(panels) {
        draw_panel(rows, top, panel)?;
    }
    root.present()?;
    Ok(())
}

fn draw_title(report: &BenchReport, area: &Area<'_>) -> Result<(), Box<dyn Error>> {
    let lines = [
        ("How fast SPEAD heaps go out, by heap size".to_owned(), 20, INK),
        (format!("One thread, into {}", report.sink.description), 13, GREY),
        (
            format!(
                "Medians of {} runs of {} s, all ways in turn; bars from the least to the most. \
                 Dashed: the same packets ready-made, through the backend alone",
                report.repeat, report.seconds
            ),
            13,
            GREY,
        ),
    ];
    let mut y = 14;
    for (text, size, colour) in lines {
        area.draw_text(&text, &font(size, colour, HPos::Left), (LEFT, y))?;
        y += size + 8;
    }
    Ok(())
}

fn draw_panel(rows: &[Row], top: f64, area: &Area<'_>) -> Result<(), Box<dyn Error>> {
    let heading = format!("Packets of up to {} bytes", rows[0].packet_limit);
    area.draw_text(&heading, &font(15, INK, HPos::Left), (LEFT, 14))?;

    let sizes = HeapSizes::of(rows);
    let (ticks, last) = (sizes.0.len(), sizes.range().end);
    let mut chart = ChartBuilder::on(area)
        .margin_top(36)
        .margin_right(LABEL_WIDTH)
        .margin_left(8)
        .x_label_area_size(46)
        .y_label_area_size(LEFT - 8)
        .build_cartesian_2d(sizes, 0.0..top)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(GRID)
        .axis_style(GREY)
        .x_labels(ticks)
        .y_labels(8)
        .y_label_formatter(&|y| format!("{y:.0}"))
        .x_desc("payload of a heap")
        .y_desc("GB/s of payload")
        .label_style(font(12, GREY, HPos::Center))
        .axis_desc_style(font(12, GREY, HPos::Center))
        .draw()?;

    let mut labels = Vec::new();
    for (index, name) in names(rows).into_iter().enumerate() {
        let colour = COLOURS[index % COLOURS.len()];
        let line: Vec<&Row> = rows.iter().filter(|row| row.name() == name).collect();
        let ceiling = line.iter().map(|row| (row.heap_bytes, row.ceiling_gb_per_s.median));
        chart.draw_series(DashedLineSeries::new(
            ceiling,
            5,
            4,
            ShapeStyle { color: colour.mix(0.75), filled: false, stroke_width: 1 },
        ))?;
        chart.draw_series(line.iter().map(|row| {
            let Spread { min, max, .. } = row.gb_per_s;
            let x = row.heap_bytes;
            PathElement::new(vec![(x, min), (x, max)], colour.mix(0.35).stroke_width(1))
        }))?;
        let sent = || line.iter().map(|row| (row.heap_bytes, row.gb_per_s.median));
        chart.draw_series(LineSeries::new(sent(), colour.stroke_width(2)))?;
        chart.draw_series(sent().map(|point| Circle::new(point, 3, colour.filled())))?;
        if let Some(end) = line.last() {
            let y = chart.backend_coord(&(end.heap_bytes, end.gb_per_s.median)).1;
            labels.push(Label { y, text: name, colour });
        }
    }
    draw_labels(labels, &chart, last)
}

/// What a line shows, at its end.
struct Label {
    y: i32,
    text: String,
    colour: RGBColor,
}

fn draw_labels(
    mut labels: Vec<Label>,
    chart: &ChartContext<'_, SVGBackend<'_>, Plane>,
    end: usize,
) -> Result<(), Box<dyn Error>> {
    labels.sort_by_key(|label| label.y);
    for index in 1..labels.len() {
        labels[index].y = labels[index].y.max(labels[index - 1].y + LABEL_HEIGHT);
    }
    let root = chart.plotting_area().strip_coord_spec();
    let (left, top) = root.get_base_pixel();
    let x = chart.backend_coord(&(end, 0.0)).0 + LABEL_GAP - left;
    for label in labels {
        let style = font(13, label.colour, HPos::Left);
        root.draw(&Text::new(label.text, (x, label.y - top), style))?;
    }
    Ok(())
}

/// Backends and layouts, each once, in their order.
fn names(rows: &[Row]) -> Vec<String> {
    let mut names = Vec::new();
    for name in rows.iter().map(Row::name) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// An axis of heap sizes by their logarithm, with a label for each.
struct HeapSizes(Vec<usize>);

impl HeapSizes {
    fn of(rows: &[Row]) -> Self {
        let mut sizes: Vec<usize> = rows.iter().map(|row| row.heap_bytes).collect();
        sizes.sort_unstable();
        sizes.dedup();
        Self(sizes)
    }
}

impl Ranged for HeapSizes {
    type ValueType = usize;
    type FormatOption = NoDefaultFormatting;

    fn map(&self, value: &usize, (left, right): (i32, i32)) -> i32 {
        let log = |size: usize| (size as f64).log2();
        let Range { start, end } = self.range();
        let (start, end) = (log(start) - AXIS_MARGIN, log(end) + AXIS_MARGIN);
        left + ((log(*value) - start) / (end - start) * f64::from(right - left)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<usize> {
        self.0.clone()
    }

    fn range(&self) -> Range<usize> {
        self.0.first().copied().unwrap_or(1)..self.0.last().copied().unwrap_or(1)
    }
}

impl ValueFormatter<usize> for HeapSizes {
    fn format(size: &usize) -> String {
        binary(*size)
    }
}

fn font(size: i32, colour: RGBColor, position: HPos) -> TextStyle<'static> {
    TextStyle {
        font: ("sans-serif", size).into_font().transform(FontTransform::None),
        color: colour.to_backend_color(),
        pos: Pos::new(position, VPos::Center),
    }
}

/// Where there are several: they are looked for in this order.
const USUAL_FONTS: [&str; 4] = ["DejaVu Sans", "Liberation Sans", "Noto Sans", "FreeSans"];
/// Pixels of PNG to a unit of SVG.
const SCALE: f32 = 2.0;
const WIDTH: u32 = 960;
const TITLE_HEIGHT: u32 = 80;
const PANEL_HEIGHT: u32 = 380;
const LEFT: i32 = 58;
const LABEL_WIDTH: i32 = 110;
const LABEL_HEIGHT: i32 = 16;
const LABEL_GAP: i32 = 12;
/// Left and right of the sizes, in powers of two.
const AXIS_MARGIN: f64 = 0.3;
/// Space over the highest line.
const HEADROOM: f64 = 1.08;
const INK: RGBColor = RGBColor(34, 34, 34);
const GREY: RGBColor = RGBColor(102, 102, 102);
const GRID: RGBColor = RGBColor(228, 228, 228);
/// Told apart by the colour-blind, too: Okabe and Ito, "Color Universal Design", 2008.
const COLOURS: [RGBColor; 6] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(230, 159, 0),
];
