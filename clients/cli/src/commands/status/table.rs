//! The status as lines that fit a width: a head, a row for each resource, what was refused and why, and the upstreams.
//!
//! Where the width does not suffice columns are left out, the least important first. Nothing is left out in silence that
//! matters more: refusals and upstreams that are not healthy have lines of their own.

use serde_json::Value;

use crate::output::{Paint, plain};

/// Two columns stand this far apart.
const GAP: usize = 2;
/// Reasons that are listed; a gateway has some thirty in all.
const REASONS_MAX: usize = 12;

/// A column: its head, whether numbers stand in it, and how readily it is left out: the greatest first.
struct Column {
    head: &'static str,
    is_number: bool,
    spare: u8,
    cell: fn(&Value) -> String,
}

const COLUMNS: [Column; 11] = [
    Column { head: "RESOURCE", is_number: false, spare: 0, cell: |row| text(row, "name") },
    Column { head: "MSG/S", is_number: true, spare: 1, cell: |row| rate(row.get("messages_per_second")) },
    Column { head: "ALLOWED", is_number: true, spare: 2, cell: |row| count(number(row, "allowed")) },
    Column { head: "REFUSED", is_number: true, spare: 1, cell: |row| count(sum(row, "refusals")) },
    Column { head: "FAILED", is_number: true, spare: 3, cell: |row| count(sum(row, "failures")) },
    Column { head: "5XX", is_number: true, spare: 6, cell: |row| count(number(&row["responses"], "5xx")) },
    Column { head: "MEDIAN", is_number: true, spare: 7, cell: |row| millis(row.get("answered_ms_median")) },
    Column { head: "P99", is_number: true, spare: 5, cell: |row| millis(row.get("answered_ms_p99")) },
    Column { head: "IN", is_number: true, spare: 8, cell: |row| bytes(number(row, "bytes_in")) },
    Column { head: "OUT", is_number: true, spare: 8, cell: |row| bytes(number(row, "bytes_out")) },
    Column { head: "UPSTREAMS", is_number: false, spare: 4, cell: health },
];

/// What stands for messages that no resource was found for.
const ELSEWHERE: &str = "(none)";

/// The lines.
pub(super) fn lines(status: &Value, width: usize, paint: Paint) -> Vec<String> {
    let mut lines = vec![cut(&head(status), width), String::new()];
    let mut rows: Vec<Value> = status["resources"].as_array().cloned().unwrap_or_default();
    let mut elsewhere = status["elsewhere"].clone();
    if number(&elsewhere, "messages") > 0 {
        elsewhere["name"] = ELSEWHERE.into();
        rows.push(elsewhere);
    }
    lines.extend(table(&rows, width, paint));
    lines.extend(reasons("REFUSED BECAUSE", "refusals", &rows, width, paint));
    lines.extend(reasons("FAILED BECAUSE", "failures", &rows, width, paint));
    lines.extend(upstreams(&rows, width, paint));
    lines
}

/// Version, age and what concerns all resources.
fn head(status: &Value) -> String {
    let mut parts = vec![
        format!("postern {}", text(status, "version")),
        format!("up {}", age(number(status, "uptime_seconds"))),
        counted(number(status, "connections_open"), "connection"),
    ];
    if let Some(streams) = status.get("streams_open").and_then(Value::as_object) {
        let open = streams.iter().filter(|(_, count)| count.as_u64().unwrap_or(0) > 0);
        let open: Vec<String> = open.map(|(kind, count)| format!("{count} {}", plain(kind))).collect();
        if !open.is_empty() {
            parts.push(format!("open: {}", open.join(", ")));
        }
    }
    if text(status, "ledger") != "writable" {
        parts.push(format!("LEDGER {}", text(status, "ledger").to_uppercase()));
    }
    if status["draining"] == true {
        parts.push("DRAINING".to_owned());
    }
    parts.join(" · ")
}

fn table(rows: &[Value], width: usize, paint: Paint) -> Vec<String> {
    let cells: Vec<Vec<String>> =
        COLUMNS.iter().map(|column| rows.iter().map(column.cell).collect::<Vec<String>>()).collect();
    let widest = |column: usize| {
        cells[column].iter().map(|cell| cell.chars().count()).chain([COLUMNS[column].head.len()]).max().unwrap_or(0)
    };
    let mut shown: Vec<usize> = (0..COLUMNS.len()).collect();
    while shown.iter().map(|column| widest(*column) + GAP).sum::<usize>() > width + GAP {
        let Some(spare) = shown.iter().copied().filter(|it| COLUMNS[*it].spare > 0).max_by_key(|it| COLUMNS[*it].spare)
        else {
            break;
        };
        shown.retain(|column| *column != spare);
    }
    let line = |cell: &dyn Fn(usize) -> String| {
        let padded = shown.iter().map(|&column| {
            let (cell, room) = (cell(column), widest(column));
            if COLUMNS[column].is_number { format!("{cell:>room$}") } else { format!("{cell:<room$}") }
        });
        cut(padded.collect::<Vec<_>>().join(&" ".repeat(GAP)).trim_end(), width)
    };
    let mut lines = vec![paint.dim(&line(&|column| COLUMNS[column].head.to_owned()))];
    lines.extend((0..rows.len()).map(|row| line(&|column| cells[column][row].clone())));
    lines
}

/// What was refused or went wrong, over all resources, the most frequent first.
fn reasons(title: &str, member: &str, rows: &[Value], width: usize, paint: Paint) -> Vec<String> {
    let mut found: Vec<(u64, String)> = Vec::new();
    for row in rows {
        let reasons = row[member].as_object().into_iter().flatten();
        found.extend(
            reasons.map(|(reason, count)| {
                (count.as_u64().unwrap_or(0), format!("{}  {}", plain(reason), text(row, "name")))
            }),
        );
    }
    if found.is_empty() {
        return Vec::new();
    }
    found.sort_by(|one, other| other.0.cmp(&one.0).then_with(|| one.1.cmp(&other.1)));
    let room = found.iter().map(|(number, _)| count(*number).len()).max().unwrap_or(0);
    let mut lines = vec![String::new(), paint.dim(&cut(title, width))];
    lines.extend(
        found
            .iter()
            .take(REASONS_MAX)
            .map(|(number, reason)| cut(&format!("{:>room$}  {reason}", count(*number)), width)),
    );
    if found.len() > REASONS_MAX {
        lines.push(cut(&format!("and {} more", found.len() - REASONS_MAX), width));
    }
    lines
}

/// Each address that is watched, where one of them does not simply take messages.
fn upstreams(rows: &[Value], width: usize, paint: Paint) -> Vec<String> {
    let mut lines = Vec::new();
    for row in rows {
        for upstream in row["upstreams"].as_array().into_iter().flatten() {
            let condition = text(upstream, "condition");
            if condition.is_empty() || condition == "healthy" {
                continue;
            }
            let reason = text(upstream, "reason");
            let why = if reason.is_empty() { String::new() } else { format!(": {reason}") };
            let line = format!("{}  {}  {condition}{why}", text(row, "name"), text(upstream, "address"));
            lines.push(paint.red(&cut(&line, width)));
        }
    }
    if !lines.is_empty() {
        lines.splice(0..0, [String::new(), paint.dim(&cut("UPSTREAMS THAT TAKE NO MESSAGES", width))]);
    }
    lines
}

/// `2 of 2 healthy`; how many there are, where nobody watches them.
fn health(row: &Value) -> String {
    let Some(upstreams) = row["upstreams"].as_array() else { return String::new() };
    let watched: Vec<&str> = upstreams.iter().filter_map(|upstream| upstream["condition"].as_str()).collect();
    if watched.is_empty() {
        return upstreams.len().to_string();
    }
    let usable = watched.iter().filter(|condition| **condition == "healthy").count();
    format!("{usable} of {} usable", upstreams.len())
}

fn text(value: &Value, member: &str) -> String {
    value.get(member).and_then(Value::as_str).map(plain).unwrap_or_default()
}

fn number(value: &Value, member: &str) -> u64 {
    value.get(member).and_then(Value::as_u64).unwrap_or(0)
}

fn sum(value: &Value, member: &str) -> u64 {
    value[member].as_object().into_iter().flatten().filter_map(|(_, count)| count.as_u64()).sum()
}

/// `12,345`
fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut written = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            written.push(',');
        }
        written.push(digit);
    }
    written
}

fn counted(number: u64, what: &str) -> String {
    format!("{} {what}{}", count(number), if number == 1 { "" } else { "s" })
}

/// A rate, with a digit behind the point where it is small.
fn rate(value: Option<&Value>) -> String {
    match value.and_then(Value::as_f64) {
        None => "-".to_owned(),
        Some(rate) if rate < 100.0 => format!("{rate:.1}"),
        // Rounded, and far below 2^64.
        Some(rate) => count(rate.round() as u64),
    }
}

/// An upper bound of a time.
fn millis(value: Option<&Value>) -> String {
    match value.and_then(Value::as_f64) {
        None => "-".to_owned(),
        Some(millis) if millis < 1.0 => format!("{:.0}us", millis * 1000.0),
        Some(millis) => format!("{millis}ms"),
    }
}

/// `1.2 MiB`
fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut size, mut unit) = (bytes as f64, 0);
    while size >= 1024.0 && unit + 1 < UNITS.len() {
        (size, unit) = (size / 1024.0, unit + 1);
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{size:.1} {}", UNITS[unit]) }
}

/// `3 d 4 h`
fn age(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, minutes) => format!("{minutes} min"),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}

/// As much of a line as fits.
pub(super) fn cut(line: &str, width: usize) -> String {
    if line.chars().count() <= width {
        return line.to_owned();
    }
    let mut cut: String = line.chars().take(width.saturating_sub(1)).collect();
    cut.push('…');
    cut
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::output::Paint;

    fn status() -> Value {
        json!({
            "version": "0.1.0", "uptime_seconds": 7_500, "connections_open": 1, "draining": false, "ledger": "writable",
            "resources": [{
                "name": "orders", "messages": 12_350, "messages_per_second": 1234.4, "allowed": 12_345,
                "refusals": { "not-permitted": 4, "expired": 1 }, "failures": { "upstream-closed": 2 },
                "responses": { "5xx": 2 }, "bytes_in": 0, "bytes_out": 1_572_864,
                "answered_ms_median": 0.25, "answered_ms_p99": 2.5,
                "upstreams": [
                    { "upstream": "http://a:1", "address": "10.0.0.1:1", "condition": "healthy" },
                    { "upstream": "http://a:1", "address": "10.0.0.2:1", "condition": "ejected", "reason": "it \u{1b}[2J is down" },
                ],
            }],
            "elsewhere": { "messages": 7, "messages_per_second": 0.5, "allowed": 0, "refusals": { "missing-capability": 7 }, "failures": {} },
        })
    }

    #[test]
    fn a_table_says_it_all_where_there_is_room() {
        let lines = lines(&status(), 200, Paint::off());
        assert_eq!(lines[0], "postern 0.1.0 · up 2 h 5 min · 1 connection");
        let head: Vec<&str> = lines[2].split_whitespace().collect();
        assert_eq!(head, COLUMNS.map(|column| column.head));
        let cells: Vec<&str> = lines[3].split_whitespace().collect();
        let row = "orders 1,234 12,345 5 2 2 250us 2.5ms 0 B 1.5 MiB 1 of 2 usable";
        assert_eq!(cells.join(" "), row);
        assert!(lines[4].starts_with("(none)"), "{lines:?}");
        let text = lines.join("\n");
        assert!(text.contains("7  missing-capability  (none)\n4  not-permitted  orders\n1  expired  orders"), "{text}");
        assert!(text.contains("2  upstream-closed  orders"), "{text}");
        assert!(text.contains("10.0.0.2:1  ejected: it \\u{1b}[2J is down"), "{text}");
    }

    #[test]
    fn every_line_fits_whatever_the_width() {
        for width in 1..160 {
            for line in lines(&status(), width, Paint::off()) {
                assert!(line.chars().count() <= width, "{width}: {line:?}");
            }
        }
        let narrow = lines(&status(), 40, Paint::off());
        assert!(
            narrow[2].contains("RESOURCE") && narrow[2].contains("REFUSED") && !narrow[2].contains("OUT"),
            "{}",
            narrow[2]
        );
    }

    #[test]
    fn numbers_are_written_for_people() {
        assert_eq!(
            (count(0), count(999), count(1_000), count(1_234_567)),
            ("0".into(), "999".into(), "1,000".into(), "1,234,567".into())
        );
        assert_eq!((bytes(1023), bytes(1536)), ("1023 B".into(), "1.5 KiB".into()));
        assert_eq!((age(59), age(60), age(90_000)), ("59 s".into(), "1 min".into(), "1 d 1 h".into()));
    }
}
