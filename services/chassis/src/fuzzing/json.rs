use std::{cell::RefCell, io, sync::LazyLock};

use arbitrary::Unstructured;
use serde_json::Value;
use tracing::Dispatch;

use super::{byte, bytes};
use crate::telemetry::json::{JsonFields, JsonLines, steers};

/// A line is one JSON object, whatever is logged, gives every field back as it was, and steers nothing.
///
/// Input: 64 bits for all fields that are numbers, four texts behind their lengths, a truth.
pub fn json(data: &[u8]) {
    let mut input = Unstructured::new(data);
    let bits: u64 = input.arbitrary().unwrap_or_default();
    let mut text = || String::from_utf8_lossy(bytes(&mut input)).into_owned();
    let (message, string, shown, debugged) = (text(), text(), text(), text());
    let truth = byte(&mut input).is_multiple_of(2);
    let (signed, float) = (bits as i64, f64::from_bits(bits));
    let line = line(|| {
        tracing::warn!(
            target: "some\"where\n",
            string,
            shown = %shown,
            debugged = ?debugged,
            signed,
            unsigned = bits,
            wide = i128::from(signed) << 64,
            float,
            truth,
            none = None::<&str>,
            "{message}"
        );
    });
    let line = String::from_utf8(line).expect("UTF-8");
    let line = line.strip_suffix('\n').expect("an end of the line");
    assert!(!line.contains(steers), "{line:?}");
    let object: Value = serde_json::from_str(line).expect("JSON");
    for (field, expected) in [
        ("level", "WARN"),
        ("target", "some\"where\n"),
        ("message", &message),
        ("string", &string),
        ("shown", &shown),
        ("debugged", &format!("{debugged:?}")),
        ("wide", &(i128::from(signed) << 64).to_string()),
    ] {
        assert_eq!(object[field].as_str(), Some(expected), "{field}: {line}");
    }
    assert_eq!(object["signed"].as_i64(), Some(signed));
    assert_eq!(object["unsigned"].as_u64(), Some(bits));
    assert_eq!(object["truth"].as_bool(), Some(truth));
    assert_eq!(object.get("none"), None);
    // What serde_json reads may be off in the last places, so the digits themselves are looked at, too. No text has
    // this in it: its quotation marks would be escaped.
    let (_, digits) = line.split_once(r#""float":"#).expect("a float");
    let digits = digits.split(',').next().expect("digits");
    match object["float"].as_f64() {
        Some(read) => {
            assert_eq!(digits.parse(), Ok(float));
            assert!(
                (read - float).abs() <= (float.abs() * 1e-12).max(1e-300),
                "{line}"
            );
        }
        None => assert!(!float.is_finite() && digits == "null", "{line}"),
    }
    assert_eq!(object.as_object().map(|fields| fields.len()), Some(12));
}

thread_local! {
    static WRITTEN: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Writes to [`WRITTEN`].
struct Lines;

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        WRITTEN.with_borrow_mut(|written| written.extend(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What is written of the events in `log`.
fn line(log: impl FnOnce()) -> Vec<u8> {
    static JSON: LazyLock<Dispatch> = LazyLock::new(|| {
        let json = tracing_subscriber::fmt()
            .fmt_fields(JsonFields)
            .event_format(JsonLines);
        Dispatch::new(json.with_writer(|| Lines).finish())
    });
    tracing::dispatcher::with_default(&JSON, log);
    WRITTEN.take()
}
