//! A frame as a picture, for a person to look at.

use std::io;

use doorbell::output::Output;
use doorbell::receive::Frame;

use super::store::StoreError;

/// A picture of 8 bits a channel.
///
/// Bytes are shown as they are. Wider numbers are taken as linear light, whose range no screen has:
/// luminance goes through the curve of E. Reinhard, M. Stark, P. Shirley, J. Ferwerda, *Photographic
/// tone reproduction for digital images*, SIGGRAPH 2002, equations 1, 2 and 4, without the local
/// part: the log-average becomes middle grey, 0.18, and the brightest becomes white. Numbers below 0
/// and NaN are black. The result is encoded for screens: IEC 61966-2-1, sRGB.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    width: u32,
    height: u32,
    /// 1 or 3.
    channels: usize,
    bytes: Vec<u8>,
}

impl Picture {
    /// Paints a frame of shape (height, width), (height, width, 1) or (height, width, 3); `None` if
    /// it has another one, nothing in it, or elements that are no numbers.
    pub fn of(frame: &Frame) -> Option<Self> {
        let (height, width, channels) = match frame.shape[..] {
            [height, width] | [height, width, 1] => (height, width, 1),
            [height, width, 3] => (height, width, 3),
            _ => return None,
        };
        let (width, height) = (u32::try_from(width).ok()?, u32::try_from(height).ok()?);
        if width.max(height) > MAX_SIDE || width.min(height) == 0 {
            return None;
        }
        let bytes = match frame.is_bytes() {
            true => {
                let full = if frame.descr.contains('b') { u8::MAX } else { 1 };
                frame.bytes.iter().map(|byte| byte.saturating_mul(full)).collect()
            }
            false => curve(&frame.values()?.collect::<Vec<_>>(), channels),
        };
        Some(Self { width, height, channels, bytes })
    }

    /// Pixels from left to right.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Pixels from top to bottom.
    pub fn height(&self) -> u32 {
        self.height
    }

    /// Bytes row by row: one a pixel for grey, three for red, green and blue.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Writes it as a PNG file.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub fn save(&self, output: &Output) -> Result<(), StoreError> {
        let mut file = Vec::new();
        let mut encoder = png::Encoder::new(&mut file, self.width, self.height);
        encoder.set_color(match self.channels {
            1 => png::ColorType::Grayscale,
            _ => png::ColorType::Rgb,
        });
        let encoded = encoder
            .write_header()
            .and_then(|mut writer| {
                writer.write_image_data(&self.bytes)?;
                writer.finish()
            })
            .map_err(io::Error::from);
        let error = |source| StoreError { path: output.path().to_owned(), source };
        encoded.and_then(|()| output.write(&file)).map_err(error)
    }
}

/// Tone mapping of pixels of 1 or 3 channels.
fn curve(values: &[f64], channels: usize) -> Vec<u8> {
    let luminances: Vec<f64> = values.chunks_exact(channels).map(luminance).collect();
    let finite = luminances.iter().copied().filter(|luminance| luminance.is_finite());
    let white = finite.clone().fold(0.0, f64::max);
    if white <= 0.0 {
        return values.iter().map(|&value| if value == f64::INFINITY { 255 } else { 0 }).collect();
    }
    // Black has no logarithm.
    let sum: f64 = finite.clone().map(|luminance| (luminance / white + DARKEST).ln()).sum();
    let average = (sum / finite.count() as f64).exp();
    let key = MIDDLE_GREY / average;
    let mut bytes = Vec::with_capacity(values.len());
    for (pixel, luminance) in values.chunks_exact(channels).zip(luminances) {
        let scaled = key * (luminance / white);
        // What the curve makes of the luminance, over that luminance. All of an infinite one is white.
        let gain = match luminance {
            f64::INFINITY => f64::INFINITY,
            _ => key / white * (1.0 + scaled / (key * key)) / (1.0 + scaled),
        };
        bytes.extend(
            pixel.iter().map(|value| (encode(visible(*value) * gain) * 255.0).round() as u8),
        );
    }
    bytes
}

/// The luminance of a pixel: grey, or red, green and blue with the primaries of sRGB.
fn luminance(pixel: &[f64]) -> f64 {
    match *pixel {
        [red, green, blue] => {
            0.2126 * visible(red) + 0.7152 * visible(green) + 0.0722 * visible(blue)
        }
        _ => pixel.first().map_or(0.0, |value| visible(*value)),
    }
}

/// Neither less than nothing nor not a number.
fn visible(value: f64) -> f64 {
    value.max(0.0)
}

/// Linear light for a screen.
fn encode(light: f64) -> f64 {
    match light.clamp(0.0, 1.0) {
        light if light.is_nan() => 0.0,
        light if light <= 0.003_130_8 => 12.92 * light,
        light => 1.055 * light.powf(1.0 / 2.4) - 0.055,
    }
}

const MIDDLE_GREY: f64 = 0.18;
/// Of what is brightest: twenty stops.
const DARKEST: f64 = 1e-6;
/// What viewers of PNG files accept.
const MAX_SIDE: u32 = 1_000_000;
