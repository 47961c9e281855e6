//! Points and notes as command-line arguments.

use std::str::FromStr;

use proto::routeguide::{Point, RouteNote};

/// `LATITUDE,LONGITUDE`, in units of 1e-7 degree.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PointArgument(pub(crate) Point);

impl FromStr for PointArgument {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (latitude, longitude) = text.split_once(',').ok_or("expected LATITUDE,LONGITUDE")?;
        let number = |text: &str| {
            text.trim()
                .parse()
                .map_err(|_| format!("{text:?} is no whole number of 1e-7 degree"))
        };
        Ok(Self(Point {
            latitude: number(latitude)?,
            longitude: number(longitude)?,
        }))
    }
}

/// `LATITUDE,LONGITUDE,TEXT`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct NoteArgument(pub(crate) RouteNote);

impl FromStr for NoteArgument {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let second_comma = text.match_indices(',').nth(1).map(|(index, _)| index);
        let (point, message) =
            text.split_at(second_comma.ok_or("expected LATITUDE,LONGITUDE,TEXT")?);
        let PointArgument(location) = point.parse()?;
        let message = message[1..].to_owned(); // without its comma
        Ok(Self(RouteNote {
            location: Some(location),
            message,
        }))
    }
}

#[cfg(test)]
mod tests {
    use proto::routeguide::{Point, RouteNote};

    use super::{NoteArgument, PointArgument};

    #[test]
    fn points_and_notes_are_read() {
        let location = Point {
            latitude: 1,
            longitude: -2,
        };
        assert_eq!("1, -2".parse(), Ok(PointArgument(location)));
        let message = "a, b".to_owned();
        let note = RouteNote {
            location: Some(location),
            message,
        };
        assert_eq!("1,-2,a, b".parse(), Ok(NoteArgument(note)));
    }

    #[test]
    fn what_is_no_point_is_refused() {
        for text in ["", "1", "1,", "1,2.5", "north,west", "3000000000,0"] {
            assert!(text.parse::<PointArgument>().is_err(), "{text:?}");
        }
        assert!("1,2".parse::<NoteArgument>().is_err());
    }
}
