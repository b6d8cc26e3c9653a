//! Pictures of results as small SVG texts: a title and a description for screen readers, light and dark by the viewer's
//! scheme, no script, nothing loaded from elsewhere. All texts are escaped.

use std::fmt::Write;

use crate::outcome::{Curve, Grid};

/// Side of the plotting square, in SVG units.
const SIDE: f64 = 320.0;
const LEFT: f64 = 56.0;
const TOP: f64 = 40.0;

/// A receiver operating characteristic, with the AUC in title and description when it is known.
pub fn roc(curve: &Curve, auc: Option<f64>) -> String {
    let title = auc.map_or_else(|| "ROC curve".to_owned(), |auc| format!("ROC curve, AUC {auc:.4}"));
    let description = format!(
        "Sensitivity against one minus specificity in {} points; the diagonal is a model that guesses.",
        curve.points.len()
    );
    let mut path = String::new();
    for (index, (x, y)) in curve.points.iter().enumerate() {
        let (x, y) = place(*x, *y);
        let _ = write!(path, "{}{x:.2} {y:.2} ", if index == 0 { "M" } else { "L" });
    }
    let body = format!("<path class=\"line\" d=\"{}\"/>", path.trim_end());
    unit_square(&title, &description, curve, &body)
}

/// Observed share against predicted probability.
pub fn calibration(curve: &Curve) -> String {
    let description = format!(
        "Observed share of positive outcomes against predicted probability for {} groups; on the diagonal they agree.",
        curve.points.len()
    );
    let mut body = String::new();
    for (x, y) in &curve.points {
        let (cx, cy) = place(*x, *y);
        let _ = write!(
            body,
            "<circle class=\"dot\" cx=\"{cx:.2}\" cy=\"{cy:.2}\" r=\"5\"><title>predicted {x:.3}, observed {y:.3}</title></circle>"
        );
    }
    unit_square("Calibration", &description, curve, &body)
}

/// A forest of coefficients with their 95 % intervals, without the intercept; columns `estimate`, `low95`, `high95`.
pub fn forest(grid: &Grid) -> String {
    let rows: Vec<(&str, f64, f64, f64)> = grid
        .rows
        .iter()
        .filter(|row| row.label != crate::glm::INTERCEPT)
        .filter_map(|row| {
            let value = |column: &str| grid.value(&row.label, column);
            Some((row.label.as_str(), value("estimate")?, value("low95")?, value("high95")?))
        })
        .collect();
    let low = rows.iter().map(|row| row.2).fold(0.0, f64::min);
    let high = rows.iter().map(|row| row.3).fold(0.0, f64::max);
    let span = if high > low { high - low } else { 1.0 };
    let (left, width, step) = (220.0, 360.0, 22.0);
    let at = |value: f64| left + (value - low) / span * width;
    let bottom = TOP + step * rows.len() as f64 + 6.0;
    let mut body = format!("<path class=\"axis\" d=\"M{0:.2} {TOP} V{bottom:.2}\"/>", at(0.0));
    for (index, (label, estimate, low, high)) in rows.iter().enumerate() {
        let y = TOP + step * (index as f64 + 0.7);
        let _ = write!(
            body,
            "<text class=\"end\" x=\"{:.2}\" y=\"{:.2}\">{}</text><path class=\"line\" d=\"M{:.2} {y:.2} H{:.2}\"/>\
             <circle class=\"dot\" cx=\"{:.2}\" cy=\"{y:.2}\" r=\"4\"><title>{}: {estimate:.4} ({low:.4} to {high:.4})</title></circle>",
            left - 10.0,
            y + 4.0,
            escape(label),
            at(*low),
            at(*high),
            at(*estimate),
            escape(label)
        );
    }
    for (value, class) in [(low, "start"), (0.0, "middle"), (high, "end")] {
        let _ =
            write!(body, "<text class=\"{class}\" x=\"{:.2}\" y=\"{:.2}\">{value:.2}</text>", at(value), bottom + 18.0);
    }
    let description = format!("Estimates and 95 percent intervals of {} terms, {}.", rows.len(), grid.note);
    document("Coefficients", &description, left + width + 30.0, bottom + 30.0, &body)
}

fn unit_square(title: &str, description: &str, curve: &Curve, content: &str) -> String {
    let (right, bottom) = (LEFT + SIDE, TOP + SIDE);
    let mut body = format!(
        "<path class=\"axis\" d=\"M{LEFT} {TOP} V{bottom} H{right}\"/><path class=\"guide\" d=\"M{LEFT} {bottom} L{right} {TOP}\"/>"
    );
    for tenth in [0_u8, 2, 4, 6, 8, 10] {
        let share = f64::from(tenth) / 10.0;
        let (x, y) = place(share, share);
        let _ = write!(
            body,
            "<text class=\"middle\" x=\"{x:.2}\" y=\"{:.2}\">{share}</text><text class=\"end\" x=\"{:.2}\" y=\"{:.2}\">{share}</text>",
            bottom + 18.0,
            LEFT - 8.0,
            y + 4.0
        );
    }
    let _ = write!(
        body,
        "<text class=\"middle\" x=\"{:.2}\" y=\"{:.2}\">{}</text><text class=\"middle\" transform=\"translate(16 {:.2}) rotate(-90)\">{}</text>{content}",
        LEFT + SIDE / 2.0,
        bottom + 38.0,
        escape(&curve.x),
        TOP + SIDE / 2.0,
        escape(&curve.y)
    );
    document(title, description, right + 24.0, bottom + 52.0, &body)
}

fn document(title: &str, description: &str, width: f64, height: f64, body: &str) -> String {
    let (title, description) = (escape(title), escape(description));
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" role=\"img\" aria-labelledby=\"t d\">\
         <title id=\"t\">{title}</title><desc id=\"d\">{description}</desc><style>{STYLE}</style>\
         <rect class=\"ground\" width=\"{width:.0}\" height=\"{height:.0}\"/>\
         <text class=\"middle head\" x=\"{:.0}\" y=\"24\">{title}</text>{body}</svg>\n",
        width / 2.0
    )
}

/// From the unit square to SVG coordinates.
fn place(x: f64, y: f64) -> (f64, f64) {
    (LEFT + x.clamp(0.0, 1.0) * SIDE, TOP + (1.0 - y.clamp(0.0, 1.0)) * SIDE)
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

const STYLE: &str = "text{font:12px system-ui,sans-serif;fill:#1b1f24}.head{font-size:15px;font-weight:600}\
.middle{text-anchor:middle}.end{text-anchor:end}.ground{fill:#fff}.axis{fill:none;stroke:#59636e}\
.guide{fill:none;stroke:#8c959f;stroke-dasharray:4 4}.line{fill:none;stroke:#0550ae;stroke-width:2}.dot{fill:#0550ae}\
@media(prefers-color-scheme:dark){text{fill:#e6edf3}.ground{fill:#0d1117}.axis{stroke:#9198a1}.guide{stroke:#6e7681}\
.line{stroke:#6cb6ff}.dot{fill:#6cb6ff}}";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::GridRow;

    #[test]
    fn pictures_are_closed_and_escaped() {
        let curve = Curve {
            name: "roc".into(),
            x: "a<b".into(),
            y: "c&d".into(),
            points: vec![(0.0, 0.0), (0.5, 0.9), (1.0, 1.0)],
        };
        let grid = Grid {
            name: "coefficients".into(),
            note: "note".into(),
            columns: ["estimate", "low95", "high95"].map(str::to_owned).to_vec(),
            rows: vec![GridRow { label: "<script>".into(), values: vec![Some(1.0), Some(0.5), Some(1.5)] }],
        };
        for svg in [roc(&curve, Some(0.9)), calibration(&curve), forest(&grid)] {
            assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
            assert!(
                svg.contains("<title id=\"t\">")
                    && svg.contains("<desc id=\"d\">")
                    && svg.contains("prefers-color-scheme:dark")
            );
            assert!(!svg.contains("a<b") && !svg.contains("<script>") && !svg.contains("c&d"));
            for tag in ["text", "circle", "style", "title"] {
                let (open, close) = (format!("<{tag}"), format!("</{tag}>"));
                assert_eq!(svg.matches(&open).count(), svg.matches(&close).count(), "{tag}");
            }
        }
    }
}
