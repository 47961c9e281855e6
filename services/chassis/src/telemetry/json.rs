//! A log event as a line of JSON.
//!
//! tracing-subscriber's own, which passes every piece through a serializer and checks each anew for UTF-8,
//! takes a quarter of all that a short call costs.

use std::{
    cell::Cell,
    fmt::{self, Debug, Write},
    time::SystemTime,
};

use humantime::format_rfc3339_micros;
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    field::RecordFields,
    fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields, format::Writer},
    registry::{LookupSpan, Scope},
};

/// An object a line: `timestamp`, `level`, the fields of the event and of the spans that it is in, from the
/// outermost, `target`.
pub(crate) struct JsonLines;

/// The fields of a span as [`JsonLines`] writes them, each behind a comma.
pub(crate) struct JsonFields;

impl<'writer> FormatFields<'writer> for JsonFields {
    fn format_fields<R: RecordFields>(&self, mut line: Writer<'writer>, fields: R) -> fmt::Result {
        write_at_once(&mut line, |text| fields.record(&mut Fields(text)))
    }
}

impl<S> FormatEvent<S, JsonFields> for JsonLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, JsonFields>,
        mut line: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        write_at_once(&mut line, |text| {
            let about = event.metadata();
            text.push_str(r#"{"timestamp":""#);
            // Into a string, so that it cannot fail.
            let _ = write!(text, "{}", format_rfc3339_micros(SystemTime::now()));
            text.push_str(r#"","level":""#);
            text.push_str(about.level().as_str());
            text.push('"');
            event.record(&mut Fields(text));
            let spans = context.event_scope();
            for span in spans.into_iter().flat_map(Scope::from_root) {
                if let Some(fields) = span.extensions().get::<FormattedFields<JsonFields>>() {
                    text.push_str(fields);
                }
            }
            text.push_str(r#","target":""#);
            escape(text, about.target());
            text.push_str("\"}\n");
        })
    }
}

/// Writes a text at once: a [`Writer`] costs more for each piece than most pieces are long, and the text of a
/// span would be allocated several times as it grows.
fn write_at_once(line: &mut Writer<'_>, write: impl FnOnce(&mut String)) -> fmt::Result {
    thread_local! {
        static TEXT: Cell<String> = const { Cell::new(String::new()) };
    }
    // Taken, since what is written may log something itself.
    let mut text = TEXT.take();
    text.clear();
    write(&mut text);
    let written = line.write_str(&text);
    TEXT.set(text);
    written
}

/// Writes each field behind a comma. Their names are identifiers of ours.
struct Fields<'a>(&'a mut String);

impl Fields<'_> {
    fn name(&mut self, field: &Field) -> &mut String {
        self.0.push_str(",\"");
        self.0.push_str(field.name());
        self.0.push_str("\":");
        self.0
    }

    fn value(&mut self, field: &Field, value: fmt::Arguments<'_>) {
        let _ = self.name(field).write_fmt(value);
    }
}

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let text = self.name(field);
        text.push('"');
        // What fails is of the value, and leaves what it has written.
        let _ = write!(Escaped(text), "{value:?}");
        text.push('"');
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        let text = self.name(field);
        text.push('"');
        escape(text, value);
        text.push('"');
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.value(field, format_args!("{value}"));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.value(field, format_args!("{value}"));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.value(field, format_args!("{value}"));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        match value.is_finite() {
            // As `1e300`: there are readers that take all its digits for a number out of range.
            true => self.value(field, format_args!("{value:?}")),
            false => self.name(field).push_str("null"),
        }
    }
}

/// Whether a terminal or a reader of lines may obey a character instead of showing it. Not all of these
/// have to be escaped in JSON.
pub(crate) fn steers(letter: char) -> bool {
    letter.is_control() || matches!(letter, '\u{2028}' | '\u{2029}')
}

/// The bytes with which a character begins that may have to be escaped: all such that are one byte, and those
/// of the control characters beyond ASCII, U+2028 and U+2029. A table, because each byte of a line is looked at.
static MAY_BE_SPECIAL: [bool; 256] = {
    const FIRST_OF_C1: u8 = 0xc2;
    const FIRST_OF_LINE_ENDS: u8 = 0xe2;
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = byte < b' ' as usize
            || matches!(
                byte as u8,
                b'"' | b'\\' | b'\x7f' | FIRST_OF_C1 | FIRST_OF_LINE_ENDS
            );
        byte += 1;
    }
    table
};

/// What is written here stands in a JSON string.
struct Escaped<'a>(&'a mut String);

impl Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        escape(self.0, text);
        Ok(())
    }
}

/// Adds what is to stand in a JSON string. RFC 8259, 7.
fn escape(line: &mut String, text: &str) {
    let mut rest = text;
    let may_be_special = |byte: u8| MAY_BE_SPECIAL[usize::from(byte)];
    while let Some(at) = rest.bytes().position(may_be_special) {
        let (plain, special) = rest.split_at(at);
        line.push_str(plain);
        let mut letters = special.chars();
        for letter in letters.by_ref().take(1) {
            match matches!(letter, '"' | '\\') || steers(letter) {
                true => _ = write!(line, "\\u{:04x}", u32::from(letter)),
                false => line.push(letter),
            }
        }
        rest = letters.as_str();
    }
    line.push_str(rest);
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::{Arc, Mutex},
    };

    use proptest::prelude::*;
    use serde_json::{Value, json};
    use tracing_subscriber::fmt::MakeWriter;

    use super::{JsonFields, JsonLines, escape, steers};

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("no panic").extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl MakeWriter<'_> for Lines {
        type Writer = Self;

        fn make_writer(&self) -> Self {
            self.clone()
        }
    }

    #[test]
    fn a_line_is_an_object_with_all_there_is_to_the_event_and_its_spans() {
        let lines = Lines::default();
        let subscriber = tracing_subscriber::fmt()
            .fmt_fields(JsonFields)
            .event_format(JsonLines)
            .with_writer(lines.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            let outer = tracing::info_span!("call", method = "/p.S/M", trace_id = %"a\nb");
            let _outer = outer.enter();
            let _inner = tracing::info_span!("step", index = 1).entered();
            tracing::warn!(
                target: "somewhere",
                count = -3_i64,
                took = 0.5,
                never = f64::NAN,
                most = f64::MAX,
                big = u64::MAX,
                yes = true,
                none = None::<&str>,
                shown = %"a \"b\"\n",
                debugged = ?Some(1),
                "said {}", 1
            );
        });
        let lines = lines.0.lock().expect("no panic");
        let mut line: Value = serde_json::from_slice(&lines).expect("JSON");
        let timestamp = line["timestamp"].take();
        assert!(timestamp.as_str().is_some_and(|time| time.ends_with('Z')));
        let expected = json!({
            "timestamp": null, "level": "WARN", "target": "somewhere", "message": "said 1",
            "count": -3, "took": 0.5, "never": null, "most": f64::MAX, "big": u64::MAX, "yes": true,
            "shown": "a \"b\"\n", "debugged": "Some(1)",
            "method": "/p.S/M", "trace_id": "a\nb", "index": 1,
        });
        assert_eq!(line, expected);
        assert_eq!(lines.iter().filter(|byte| **byte == b'\n').count(), 1);
    }

    proptest! {
        #[test]
        fn any_text_is_read_back_and_steers_nothing(
            text in "(\\PC|\\pC|[\u{7f}-\u{9f}\u{2027}-\u{202a}é€\"\\\\])*",
        ) {
            let mut escaped = String::new();
            escape(&mut escaped, &text);
            prop_assert!(!escaped.contains(steers), "{escaped:?}");
            prop_assert_eq!(serde_json::from_str::<String>(&format!("\"{escaped}\"")).expect("JSON"), text);
        }
    }
}
