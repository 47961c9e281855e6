//! A log event as a line of JSON.
//!
//! tracing-subscriber's own, which passes every piece through a serializer and checks each anew for UTF-8,
//! takes a quarter of all that a short call costs.

use std::{
    cell::RefCell,
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
        thread_local! {
            static TEXT: RefCell<String> = const { RefCell::new(String::new()) };
        }
        // Written at once, so that the text of a span is allocated once.
        TEXT.with_borrow_mut(|text| {
            text.clear();
            let mut written = Fields {
                line: Writer::new(text),
                result: Ok(()),
            };
            fields.record(&mut written);
            written.result?;
            line.write_str(text)
        })
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
        let about = event.metadata();
        line.write_str(r#"{"timestamp":""#)?;
        write!(line, "{}", format_rfc3339_micros(SystemTime::now()))?;
        line.write_str(r#"","level":""#)?;
        line.write_str(about.level().as_str())?;
        line.write_char('"')?;
        let mut fields = Fields {
            line: line.by_ref(),
            result: Ok(()),
        };
        event.record(&mut fields);
        fields.result?;
        let spans = context.event_scope();
        for span in spans.into_iter().flat_map(Scope::from_root) {
            if let Some(fields) = span.extensions().get::<FormattedFields<JsonFields>>() {
                line.write_str(fields)?;
            }
        }
        line.write_str(r#","target":""#)?;
        Escaped(line.by_ref()).write_str(about.target())?;
        line.write_str("\"}\n")
    }
}

/// Writes each field behind a comma. Their names are identifiers of ours.
struct Fields<'a> {
    line: Writer<'a>,
    result: fmt::Result,
}

impl Fields<'_> {
    fn field(&mut self, field: &Field, value: impl FnOnce(&mut Writer<'_>) -> fmt::Result) {
        let line = &mut self.line;
        self.result = (self.result)
            .and_then(|()| line.write_str(",\""))
            .and_then(|()| line.write_str(field.name()))
            .and_then(|()| line.write_str("\":"))
            .and_then(|()| value(line));
    }

    fn text(&mut self, field: &Field, write: impl FnOnce(&mut Escaped<Writer<'_>>) -> fmt::Result) {
        self.field(field, |line| {
            line.write_char('"')?;
            write(&mut Escaped(line.by_ref()))?;
            line.write_char('"')
        });
    }
}

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.text(field, |text| write!(text, "{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field, |text| text.write_str(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.field(field, |line| write!(line, "{value}"));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.field(field, |line| write!(line, "{value}"));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.field(field, |line| write!(line, "{value}"));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.field(field, |line| match value.is_finite() {
            // As `1e300`: there are readers that take all its digits for a number out of range.
            true => write!(line, "{value:?}"),
            false => line.write_str("null"),
        });
    }
}

/// The first byte, in UTF-8, of the control characters that are not of ASCII.
const FIRST_OF_C1: u8 = 0xc2;
/// The same of U+2028 and U+2029.
const FIRST_OF_LINE_ENDS: u8 = 0xe2;

/// Whether a terminal or a reader of lines may obey a character instead of showing it. Not all of these
/// have to be escaped in JSON.
pub(crate) fn steers(letter: char) -> bool {
    letter.is_control() || matches!(letter, '\u{2028}' | '\u{2029}')
}

/// What is written here stands in a JSON string. RFC 8259, 7.
struct Escaped<W>(W);

impl<W: Write> Write for Escaped<W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text;
        // Each begins a character, be it a longer one.
        let may_be_special = |byte: u8| {
            byte < b' '
                || matches!(
                    byte,
                    b'"' | b'\\' | b'\x7f' | FIRST_OF_C1 | FIRST_OF_LINE_ENDS
                )
        };
        while let Some(at) = rest.bytes().position(may_be_special) {
            let (plain, special) = rest.split_at(at);
            self.0.write_str(plain)?;
            let mut letters = special.chars();
            for letter in letters.by_ref().take(1) {
                match matches!(letter, '"' | '\\') || steers(letter) {
                    true => write!(self.0, "\\u{:04x}", u32::from(letter))?,
                    false => self.0.write_char(letter)?,
                }
            }
            rest = letters.as_str();
        }
        self.0.write_str(rest)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fmt::Write as _,
        io,
        sync::{Arc, Mutex},
    };

    use proptest::prelude::*;
    use serde_json::{Value, json};
    use tracing_subscriber::fmt::MakeWriter;

    use super::{Escaped, JsonFields, JsonLines, steers};

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
            write!(Escaped(&mut escaped), "{text}").expect("a string takes all");
            prop_assert!(!escaped.contains(steers), "{escaped:?}");
            prop_assert_eq!(serde_json::from_str::<String>(&format!("\"{escaped}\"")).expect("JSON"), text);
        }
    }
}
