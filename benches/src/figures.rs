//! Collecting figures, and showing them beside the design's goals.

use std::fmt;
use std::time::{Duration, Instant};

use comfy_table::presets::UTF8_HORIZONTAL_ONLY;

/// The table that is printed at the end.
pub(crate) struct Table(comfy_table::Table);

impl Table {
    pub(crate) fn new() -> Self {
        let mut table = comfy_table::Table::new();
        table
            .load_style(UTF8_HORIZONTAL_ONLY)
            .set_header(["figure", "measured", "goal"]);
        Self(table)
    }

    /// Adds a line, and shows at once that something happens.
    pub(crate) fn add(
        &mut self,
        figure: impl fmt::Display,
        measured: impl fmt::Display,
        goal: &str,
    ) {
        println!("{figure}: {measured}");
        self.0
            .add_row([figure.to_string(), measured.to_string(), goal.to_owned()]);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How long it takes.
#[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
pub(crate) fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let result = work();
    (result, start.elapsed())
}

/// The `share`-quantile, 0.5 for the median.
pub(crate) fn quantile(values: &mut [Duration], share: f64) -> Duration {
    values.sort_unstable();
    let index = (share * (values.len().saturating_sub(1)) as f64).round() as usize;
    values.get(index).copied().unwrap_or_default()
}

/// Milliseconds, with as many digits as matter.
pub(crate) fn ms(duration: Duration) -> String {
    format!("{:.3} ms", duration.as_secs_f64() * 1000.0)
}
