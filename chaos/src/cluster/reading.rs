//! What coordinators say in `/metrics`, added up over all of them.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

use super::Http;

/// Values of all series at a moment, or between two.
#[derive(Clone, Debug, Default)]
pub struct Reading(BTreeMap<String, f64>);

impl Reading {
    /// What the coordinators at these URLs say now.
    ///
    /// # Errors
    /// One of them does not answer.
    pub async fn take(http: &Http, urls: impl IntoIterator<Item = &String>) -> Result<Self> {
        let mut reading = Self::default();
        for url in urls {
            let answer = http.get(&format!("{url}/metrics")).await;
            let answer = answer.with_context(|| format!("{url} does not answer"))?;
            reading.add(&String::from_utf8_lossy(&answer.body));
        }
        Ok(reading)
    }

    /// Adds what another coordinator says.
    pub fn add(&mut self, text: &str) {
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            if let Some((series, value)) = line.rsplit_once(' ')
                && let Ok(value) = value.parse::<f64>()
            {
                *self.0.entry(series.to_owned()).or_default() += value;
            }
        }
    }

    /// What one coordinator says.
    #[must_use]
    pub fn of(text: &str) -> Self {
        let mut reading = Self::default();
        reading.add(text);
        reading
    }

    /// What was added since an earlier reading.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let since = |(series, value): (&String, &f64)| (series.clone(), value - earlier.at(series));
        Self(self.0.iter().map(since).collect())
    }

    fn at(&self, series: &str) -> f64 {
        self.0.get(series).copied().unwrap_or_default()
    }

    /// All series of this name that have this text in their labels, added up.
    #[must_use]
    pub fn sum(&self, name: &str, label: &str) -> f64 {
        let own = |series: &str| {
            series
                .strip_prefix(name)
                .is_some_and(|labels| labels.is_empty() || labels.starts_with('{'))
        };
        let found = self.0.iter().filter(|(series, _)| own(series));
        found
            .filter(|(series, _)| series.contains(label))
            .map(|(_, value)| value)
            .fold(0.0, |sum, value| sum + value)
    }

    /// The mean of a histogram's values.
    #[must_use]
    pub fn mean(&self, name: &str) -> Option<f64> {
        let count = self.at(&format!("{name}_count"));
        (count > 0.0).then(|| self.at(&format!("{name}_sum")) / count)
    }

    /// The `share`-quantile of a histogram; within its bucket, values are taken to be spread evenly.
    #[must_use]
    pub fn quantile(&self, name: &str, share: f64) -> Option<f64> {
        let prefix = format!("{name}_bucket{{le=\"");
        let mut buckets: Vec<(f64, f64)> = self
            .0
            .iter()
            .filter_map(|(series, count)| {
                let bound = series.strip_prefix(&prefix)?.strip_suffix("\"}")?;
                Some((bound.parse().unwrap_or(f64::INFINITY), *count))
            })
            .collect();
        buckets.sort_by(|one, other| one.0.total_cmp(&other.0));
        let (_, total) = *buckets.last()?;
        if total <= 0.0 {
            return None;
        }
        let wanted = total * share;
        let mut below = (0.0, 0.0);
        for (bound, count) in buckets {
            if count >= wanted {
                let within = (wanted - below.1) / (count - below.1).max(f64::MIN_POSITIVE);
                // Nothing is known of what lies beyond the last bound.
                let width = if bound.is_finite() {
                    bound - below.0
                } else {
                    0.0
                };
                return Some(below.0 + width * within);
            }
            below = (bound, count);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# HELP x y\nx_bucket{le=\"1.0\"} 10\nx_bucket{le=\"2.0\"} 30\nx_bucket{le=\"+Inf\"} 40\n\
        b_total{kind=\"a\",direction=\"sent\"} 5\nb_total{kind=\"c\",direction=\"sent\"} 7\nb_totals 100\n# EOF\n";

    #[test]
    fn series_are_added_up_by_name_and_label() {
        let mut reading = Reading::of(TEXT);
        assert_eq!(reading.sum("b_total", "sent"), 12.0);
        assert_eq!(reading.sum("b_total", "kind=\"c\""), 7.0);
        let earlier = reading.clone();
        reading.add(TEXT);
        assert_eq!(reading.since(&earlier).sum("b_total", ""), 12.0);
    }

    #[test]
    fn quantiles_lie_within_their_buckets() {
        let reading = Reading::of(TEXT);
        assert_eq!(reading.quantile("x", 0.5), Some(1.5));
        assert_eq!(reading.quantile("x", 0.25), Some(1.0));
        assert_eq!(reading.quantile("x", 0.99), Some(2.0));
        assert_eq!(reading.quantile("y", 0.5), None);
        let mean = Reading::of("x_sum 9\nx_count 2\n").mean("x");
        assert_eq!((mean, reading.mean("x")), (Some(4.5), None));
    }
}
