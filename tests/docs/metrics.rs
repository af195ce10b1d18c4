//! `docs/metrics.md`: the table of metrics.

use merganser::telemetry::instruments::{ALL, Metric};

use super::{check, table};

#[test]
fn the_page_has_every_metric() {
    let row = |metric: &Metric| {
        let kind = format!("{:?}", metric.kind).to_lowercase();
        [format!("`{}`", metric.name), kind, metric.labels.to_owned(), metric.help.to_owned()]
    };
    check("metrics.md", &table(["metric", "kind", "labels", ""], ALL.iter().map(row)));
}
