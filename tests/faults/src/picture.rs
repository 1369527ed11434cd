//! Availability over time, as an SVG: what was answered and what failed, above the faults that were going on.

use std::{fmt::Write, time::Duration};

use crate::{
    fault::FaultKind,
    journal::{Event, Kind, Outcome, Span},
    run::Finished,
};

const WIDTH: f64 = 1400.0;
const LEFT: f64 = 110.0;
const RIGHT: f64 = 30.0;
const TOP: f64 = 64.0;
const PANEL: f64 = 150.0;
const BETWEEN: f64 = 34.0;
const LANE: f64 = 20.0;
/// The shortest time that one bar stands for.
const BIN: Duration = Duration::from_millis(100);
const BARS_MAX: f64 = 630.0;
/// The longest label that fits into a span, at so many pixels a character.
const CHARACTER: f64 = 6.2;

/// The whole picture.
pub fn draw(finished: &Finished) -> String {
    let mut svg = String::new();
    // Writing to a string cannot fail.
    let _ = Picture::new(finished).write(&mut svg, finished);
    svg
}

struct Picture {
    /// What the horizontal axis stands for, in seconds.
    seconds: f64,
    /// What one bar stands for, in seconds.
    bin: f64,
    lanes: Vec<&'static str>,
}

impl Picture {
    fn new(finished: &Finished) -> Self {
        let seconds = finished.work_ended.as_secs_f64().max(1.0);
        let bin = BIN.as_secs_f64() * (seconds / BARS_MAX / BIN.as_secs_f64()).ceil().max(1.0);
        let happened = |kind: &FaultKind| finished.records.spans.iter().any(|span| span.kind == kind.name());
        Self {
            seconds,
            bin,
            lanes: FaultKind::ALL.iter().filter(|kind| happened(kind)).map(|kind| kind.name()).collect(),
        }
    }

    fn x(&self, seconds: f64) -> f64 {
        LEFT + seconds.min(self.seconds) / self.seconds * (WIDTH - LEFT - RIGHT)
    }

    fn write(&self, svg: &mut String, finished: &Finished) -> std::fmt::Result {
        let lanes_top = TOP + 2.0 * (PANEL + BETWEEN);
        let height = lanes_top + self.lanes.len() as f64 * LANE + 40.0;
        writeln!(
            svg,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
             font-family=\"DejaVu Sans, Helvetica, Arial, sans-serif\" font-size=\"11\" fill=\"#333\">"
        )?;
        writeln!(svg, "<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>")?;
        let anomalies = finished.records.anomalies.len();
        writeln!(
            svg,
            "<text x=\"{LEFT}\" y=\"24\" font-size=\"16\" font-weight=\"bold\">Availability under faults, seed {}: {} faults, \
             {} operations checked, {}</text>",
            finished.seed,
            finished.records.spans.len(),
            finished.checked.operations,
            if anomalies == 0 { "no anomaly".into() } else { format!("{anomalies} ANOMALIES") }
        )?;
        writeln!(
            svg,
            "<text x=\"{LEFT}\" y=\"42\">attempts per {:.0} ms: <tspan fill=\"#2a7\">■ answered</tspan>  <tspan \
             fill=\"#c33\">■ failed (503, no answer), retried at another node</tspan>; shaded: while any fault lasts</text>",
            self.bin * 1000.0
        )?;
        for (number, (kind, name)) in [(Kind::Write, "writes"), (Kind::Read, "reads")].into_iter().enumerate() {
            self.panel(svg, finished, TOP + number as f64 * (PANEL + BETWEEN), kind, name)?;
        }
        self.lanes(svg, &finished.records.spans, lanes_top)?;
        self.axis(svg, TOP, lanes_top + self.lanes.len() as f64 * LANE)?;
        writeln!(svg, "</svg>")
    }

    fn panel(&self, svg: &mut String, finished: &Finished, top: f64, kind: Kind, name: &str) -> std::fmt::Result {
        for span in &finished.records.spans {
            let (left, right) = self.ends(span);
            writeln!(
                svg,
                "<rect x=\"{left:.1}\" y=\"{top}\" width=\"{:.1}\" height=\"{PANEL}\" fill=\"#f80\" opacity=\"0.07\"/>",
                right - left
            )?;
        }
        let (answered, failed) = (self.bins(finished, kind, false), self.bins(finished, kind, true));
        let highest = |bins: &[u32]| bins.iter().copied().max().unwrap_or(0).max(1);
        let (most, most_failed) = (highest(&answered), highest(&failed));
        // Both directions on one scale.
        let scale = PANEL / f64::from(most + most_failed);
        let base = top + f64::from(most) * scale;
        let width = (self.x(self.bin) - self.x(0.0)).max(0.5);
        for (bins, colour, is_up) in [(&answered, "#2a7", true), (&failed, "#c33", false)] {
            let mut path = String::new();
            for (number, count) in bins.iter().enumerate().filter(|(_, count)| **count > 0) {
                let (x, size) = (self.x(number as f64 * self.bin), f64::from(*count) * scale);
                let y = if is_up { base - size } else { base };
                write!(path, "M{x:.1} {y:.1}h{width:.2}v{size:.1}h-{width:.2}z")?;
            }
            writeln!(svg, "<path d=\"{path}\" fill=\"{colour}\"/>")?;
        }
        let right = WIDTH - RIGHT;
        writeln!(svg, "<path d=\"M{LEFT} {base:.1}H{right}\" stroke=\"#333\"/>")?;
        let (label, text) = (LEFT - 8.0, "text-anchor=\"end\"");
        writeln!(svg, "<text x=\"{label}\" y=\"{:.1}\" {text} font-weight=\"bold\">{name}</text>", base - 6.0)?;
        writeln!(svg, "<text x=\"{label}\" y=\"{:.1}\" {text}>{most}</text>", top + 9.0)?;
        writeln!(svg, "<text x=\"{label}\" y=\"{:.1}\" {text}>{most_failed}</text>", top + PANEL)
    }

    fn bins(&self, finished: &Finished, kind: Kind, is_failed: bool) -> Vec<u32> {
        let mut bins = vec![0; (self.seconds / self.bin).ceil() as usize + 1];
        let is_it = |event: &&Event| event.kind == kind && (event.outcome == Outcome::Failed) == is_failed;
        for event in finished.records.events.iter().filter(is_it) {
            if let Some(bin) = bins.get_mut((event.at.as_secs_f64() / self.bin) as usize) {
                *bin += 1;
            }
        }
        bins
    }

    fn ends(&self, span: &Span) -> (f64, f64) {
        let end = span.end.map_or(self.seconds, |end| end.as_secs_f64());
        (self.x(span.begin.as_secs_f64()), self.x(end))
    }

    fn lanes(&self, svg: &mut String, spans: &[Span], top: f64) -> std::fmt::Result {
        for (number, name) in self.lanes.iter().enumerate() {
            let (y, right) = (top + number as f64 * LANE, WIDTH - RIGHT);
            writeln!(svg, "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{name}</text>", LEFT - 8.0, y + 14.0)?;
            writeln!(svg, "<path d=\"M{LEFT} {:.1}H{right}\" stroke=\"#ddd\"/>", y + LANE)?;
            for span in spans.iter().filter(|span| span.kind == *name) {
                let (left, right) = self.ends(span);
                let (width, middle) = ((right - left).max(1.5), y + 14.0);
                writeln!(
                    svg,
                    "<rect x=\"{left:.1}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"{}\" rx=\"2\" fill=\"#f9c784\" \
                     stroke=\"#c77700\" stroke-width=\"0.6\"><title>{} {}: {:.1} s to {:.1} s</title></rect>",
                    y + 3.0,
                    LANE - 5.0,
                    span.kind,
                    span.detail,
                    span.begin.as_secs_f64(),
                    span.end.unwrap_or_default().as_secs_f64()
                )?;
                let (length, end) = (span.detail.len() as f64 * CHARACTER, left + width);
                let fits_inside = length < width - 4.0;
                let is_free = |other: &&Span| {
                    let (begin, _) = self.ends(other);
                    begin <= left || begin > end + length + 8.0
                };
                let fits_outside = end + length < WIDTH - RIGHT
                    && spans.iter().filter(|other| other.kind == *name).all(|other| is_free(&other));
                if fits_inside || fits_outside {
                    let x = if fits_inside { left + 3.0 } else { end + 4.0 };
                    writeln!(svg, "<text x=\"{x:.1}\" y=\"{middle:.1}\" font-size=\"10\">{}</text>", span.detail)?;
                }
            }
        }
        Ok(())
    }

    fn axis(&self, svg: &mut String, top: f64, bottom: f64) -> std::fmt::Result {
        let steps = [1.0, 2.0, 5.0, 10.0, 20.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 3600.0, 7200.0, 14_400.0];
        let step = steps.into_iter().find(|step| self.seconds / step <= 20.0).unwrap_or(36_000.0);
        for number in 0..=(self.seconds / step) as u32 {
            let seconds = f64::from(number) * step;
            let x = self.x(seconds);
            let text = if step >= 60.0 { format!("{:.0} min", seconds / 60.0) } else { format!("{seconds:.0} s") };
            writeln!(
                svg,
                "<path d=\"M{x:.1} {top}V{:.1}\" stroke=\"#999\" stroke-width=\"0.4\" stroke-dasharray=\"2 3\"/>",
                bottom + 4.0
            )?;
            writeln!(svg, "<text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{text}</text>", bottom + 18.0)?;
        }
        Ok(())
    }
}
