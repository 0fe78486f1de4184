//! Charts as inline SVG. What is drawn stretches with the page; words and numbers beside it are
//! HTML, so that they keep their size on a phone and in print.

use super::words::{short, text};
use observe::units::span;
use std::fmt::Write;

/// The width and height of what is drawn, in units of its own.
const WIDTH: f64 = 1000.0;
const HEIGHT: f64 = 100.0;
/// More points than a screen has columns are merged.
const COLUMNS: usize = 300;

/// A curve over time, with what is seen in words.
pub(crate) struct Curve<'c> {
    pub(crate) title: &'c str,
    /// Seconds since the beginning, and the value.
    pub(crate) points: Vec<(f64, f64)>,
    /// The value as people read it.
    pub(crate) show: fn(f64) -> String,
    pub(crate) class: &'c str,
}

/// The mean of the points in each of at most [`COLUMNS`] equal spans of time.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss
)]
fn merged(points: &[(f64, f64)], end: f64) -> Vec<(f64, f64)> {
    if points.len() <= COLUMNS {
        return points.to_vec();
    }
    let mut columns: Vec<(f64, f64, u32)> = vec![(0.0, 0.0, 0); COLUMNS];
    for (at, value) in points {
        let column = (at / end.max(0.001) * COLUMNS as f64) as usize;
        let column = &mut columns[column.min(COLUMNS - 1)];
        *column = (column.0 + at, column.1 + value, column.2 + 1);
    }
    columns
        .into_iter()
        .filter(|(_, _, count)| *count > 0)
        .map(|(at, value, count)| (at / f64::from(count), value / f64::from(count)))
        .collect()
}

impl Curve<'_> {
    /// Draws it from the beginning to `end`, in seconds.
    pub(crate) fn draw(&self, end: f64) -> String {
        let points = merged(&self.points, end);
        let most = points.iter().map(|(_, value)| *value).fold(0.0, f64::max);
        let (sum, count) = self
            .points
            .iter()
            .filter(|(_, value)| *value > 0.0)
            .fold((0.0, 0.0), |(sum, count), (_, value)| {
                (sum + value, count + 1.0)
            });
        let mean = if count > 0.0 { sum / count } else { 0.0 };
        let mut line = String::new();
        for (at, value) in &points {
            let x = (at / end.max(0.001) * WIDTH).clamp(0.0, WIDTH);
            let y = HEIGHT - value / most.max(1e-9) * (HEIGHT - 4.0);
            // Writing to a string does not fail.
            let step = if line.is_empty() { "M" } else { " L" };
            _ = write!(line, "{step}{x:.1} {y:.1}");
        }
        let first = points
            .first()
            .map_or(0.0, |(at, _)| at / end.max(0.001) * WIDTH);
        let last = points
            .last()
            .map_or(0.0, |(at, _)| at / end.max(0.001) * WIDTH);
        let area = match line.is_empty() {
            true => String::new(),
            false => format!("{line} L{last:.1} {HEIGHT} L{first:.1} {HEIGHT} Z"),
        };
        let (most, mean) = ((self.show)(most), (self.show)(mean));
        let said = format!("{}: at most {most}, {mean} while there was any", self.title);
        format!(
            "<figure class=\"chart {class}\">\n<figcaption><b>{title}</b> <span>peak {most}, mean {mean}</span></figcaption>\n\
             <svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"{said}\">\
             <path class=\"grid\" d=\"M0 {half} H{WIDTH} M0 0.5 H{WIDTH}\"/><path class=\"area\" d=\"{area}\"/>\
             <path class=\"line\" d=\"{line}\"/></svg>\n{axis}</figure>\n",
            class = self.class,
            title = text(self.title),
            said = text(&said),
            half = HEIGHT / 2.0,
            axis = axis(end),
        )
    }
}

/// The time under a chart.
pub(crate) fn axis(end: f64) -> String {
    let marks: Vec<String> = (0..=4)
        .map(|quarter| format!("<span>{}</span>", span(end * f64::from(quarter) / 4.0)))
        .collect();
    format!(
        "<div class=\"axis\" aria-hidden=\"true\">{}</div>\n",
        marks.concat()
    )
}

/// A piece of a strip: from, to, in seconds; its class; what it says.
pub(crate) struct Piece {
    pub(crate) from: f64,
    pub(crate) to: f64,
    pub(crate) class: String,
    pub(crate) says: String,
}

/// Pieces on a time axis, in one row.
pub(crate) fn strip(label: &str, pieces: &[Piece], end: f64) -> String {
    let mut drawn = String::new();
    for piece in pieces {
        let x = piece.from / end.max(0.001) * WIDTH;
        let width = ((piece.to - piece.from) / end.max(0.001) * WIDTH).max(1.5);
        _ = write!(
            drawn,
            "<rect class=\"{}\" x=\"{x:.1}\" width=\"{width:.1}\" y=\"0\" height=\"{HEIGHT}\"><title>{}</title></rect>",
            piece.class,
            text(&piece.says)
        );
    }
    format!(
        "<div class=\"strip\"><span>{}</span><svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" preserveAspectRatio=\"none\" aria-hidden=\"true\">{drawn}</svg></div>\n",
        text(label)
    )
}

/// Columns, one per label, such as months.
#[allow(clippy::cast_precision_loss)]
pub(crate) fn columns(title: &str, values: &[(String, f64)]) -> String {
    let most = values.iter().map(|(_, value)| *value).fold(0.0, f64::max);
    let step = WIDTH / values.len().max(1) as f64;
    let mut drawn = String::new();
    for (at, (label, value)) in values.iter().enumerate() {
        let height = value / most.max(1e-9) * (HEIGHT - 4.0);
        let x = at as f64 * step + step * 0.1;
        _ = write!(
            drawn,
            "<rect class=\"column\" x=\"{x:.1}\" width=\"{:.1}\" y=\"{:.1}\" height=\"{height:.1}\"><title>{}: {}</title></rect>",
            step * 0.8,
            HEIGHT - height,
            text(label),
            short(*value)
        );
    }
    let first = values.first().map_or("", |(label, _)| label);
    let middle = values.get(values.len() / 2).map_or("", |(label, _)| label);
    let last = values.last().map_or("", |(label, _)| label);
    format!(
        "<figure class=\"chart wide\">\n<figcaption><b>{title}</b> <span>peak {peak}</span></figcaption>\n\
         <svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"{title}\">{drawn}</svg>\n\
         <div class=\"axis\" aria-hidden=\"true\"><span>{}</span><span>{}</span><span>{}</span></div>\n</figure>\n",
        text(first),
        text(middle),
        text(last),
        title = text(title),
        peak = short(most),
    )
}

/// A bar of shares of a whole, from 0 to 1.
pub(crate) fn bar(shares: &[(f64, &str)]) -> String {
    let mut drawn = String::new();
    let mut x = 0.0;
    for (share, class) in shares {
        let width = share.clamp(0.0, 1.0) * WIDTH;
        _ = write!(
            drawn,
            "<rect class=\"{class}\" x=\"{x:.1}\" width=\"{width:.1}\" y=\"0\" height=\"{HEIGHT}\"/>"
        );
        x += width;
    }
    format!(
        "<svg class=\"bar\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" preserveAspectRatio=\"none\" aria-hidden=\"true\">{drawn}</svg>"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_points_become_few_and_keep_their_mean() {
        let points: Vec<(f64, f64)> = (0..3000).map(|n| (f64::from(n), 7.0)).collect();
        let few = merged(&points, 3000.0);
        assert_eq!(few.len(), COLUMNS);
        assert!(few.iter().all(|(_, value)| (value - 7.0).abs() < 1e-9));
    }
}
