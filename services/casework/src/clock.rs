//! The clock of GDPR Art. 12(3), counted as Regulation (EEC, Euratom) 1182/71 Art. 3 says.

use jiff::civil::{Date, Weekday};
use jiff::tz::TimeZone;
use lethe_terms::Timestamp;

/// Whose public holidays count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Land {
    /// Only the holidays of all of Germany.
    #[default]
    Nationwide,
    /// Saxony.
    Saxony,
}

/// Central European time with its summer time, as a rule, so that no time-zone database is read.
const CENTRAL_EUROPE: &str = "CET-1CEST,M3.5.0,M10.5.0/3";

/// When the answer to a request that arrived at `received` is due: the day of arrival is not counted, the period ends with the last hour of the same
/// date of the next month or of that month's last day, and on a Saturday, Sunday or public holiday with the next working day
/// (Regulation 1182/71 Art. 3(1), (2)(c), (4)).
pub fn due(received: Timestamp, land: Land) -> Timestamp {
    let zone = TimeZone::posix(CENTRAL_EUROPE).unwrap_or(TimeZone::UTC);
    let Ok(moment) = jiff::Timestamp::from_millisecond(received.millis()) else {
        return Timestamp::MAX;
    };
    let day = zone.to_datetime(moment).date();
    // Adding a month saturates at the last day of a shorter month.
    let Ok(mut last) = day.checked_add(jiff::Span::new().months(1)) else {
        return Timestamp::MAX;
    };
    while !is_working_day(last, land) {
        match last.tomorrow() {
            Ok(next) => last = next,
            Err(_) => return Timestamp::MAX,
        }
    }
    last.at(23, 59, 59, 0)
        .to_zoned(zone)
        .map_or(Timestamp::MAX, |end| {
            Timestamp::from_millis(end.timestamp().as_millisecond())
        })
}

fn is_working_day(day: Date, land: Land) -> bool {
    !matches!(day.weekday(), Weekday::Saturday | Weekday::Sunday) && !is_holiday(day, land)
}

/// Days from Easter Sunday to Good Friday, Easter Monday, Ascension Day and Whit Monday.
const EASTER_OFFSETS: [i32; 4] = [-2, 1, 39, 50];

fn is_holiday(day: Date, land: Land) -> bool {
    let fixed = matches!((day.month(), day.day()), (1 | 5, 1) | (10, 3) | (12, 25 | 26));
    let moving = EASTER_OFFSETS.iter().any(|offset| {
        easter(day.year()).and_then(|easter| easter.checked_add(jiff::Span::new().days(*offset)).ok())
            == Some(day)
    });
    let of_land = match land {
        Land::Nationwide => false,
        // Reformation Day, and the Day of Repentance: the Wednesday before 23 November.
        Land::Saxony => {
            (day.month(), day.day()) == (10, 31)
                || (day.month() == 11
                    && day.weekday() == Weekday::Wednesday
                    && (16..=22).contains(&day.day()))
        }
    };
    fixed || moving || of_land
}

/// Easter Sunday of the Gregorian calendar (the anonymous computus of 1876).
fn easter(year: i16) -> Option<Date> {
    let y = i32::from(year);
    let (a, b, c) = (y % 19, y / 100, y % 100);
    let h = (19 * a + b - b / 4 - (b - (b + 8) / 25 + 1) / 3 + 15) % 30;
    let l = (32 + 2 * (b % 4) + 2 * (c / 4) - h - c % 4) % 7;
    let m = (a + 11 * h + 22 * l) / 451;
    let n = h + l - 7 * m + 114;
    Date::new(year, i8::try_from(n / 31).ok()?, i8::try_from(n % 31 + 1).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(received: &str, land: Land, expected: &str) {
        let received: Timestamp = received.parse().unwrap();
        let expected: Timestamp = expected.parse().unwrap();
        assert_eq!(due(received, land), expected, "received {received}");
    }

    #[test]
    fn a_month_ends_with_the_last_hour_of_the_same_date() {
        check("2026-03-10T09:00:00Z", Land::Nationwide, "2026-04-10T21:59:59Z");
        check("2026-11-24T09:00:00Z", Land::Nationwide, "2026-12-24T22:59:59Z");
    }

    #[test]
    fn a_date_that_does_not_exist_becomes_the_last_day_of_the_month() {
        check("2025-01-31T12:00:00Z", Land::Nationwide, "2025-02-28T22:59:59Z");
        check("2026-08-31T12:00:00Z", Land::Nationwide, "2026-09-30T21:59:59Z");
        check("2024-01-31T12:00:00Z", Land::Nationwide, "2024-02-29T22:59:59Z");
    }

    #[test]
    fn a_weekend_or_holiday_moves_the_end_to_the_next_working_day() {
        // 25 December is a Friday, 26 a Saturday and a holiday, 27 a Sunday.
        check("2026-11-25T09:00:00Z", Land::Nationwide, "2026-12-28T22:59:59Z");
        // Good Friday 3 April 2026 to Tuesday after Easter.
        check("2026-03-03T09:00:00Z", Land::Nationwide, "2026-04-07T21:59:59Z");
        // Reformation Day 2025 is a Friday in Saxony.
        check("2025-09-30T22:30:00Z", Land::Nationwide, "2025-11-03T22:59:59Z");
        check("2025-10-18T10:00:00Z", Land::Nationwide, "2025-11-18T22:59:59Z");
        check("2025-10-19T10:00:00Z", Land::Saxony, "2025-11-20T22:59:59Z");
    }

    #[test]
    fn the_day_is_that_of_the_controller_and_not_of_greenwich() {
        // 23:30 UTC is already the next day in Dresden.
        check("2026-03-09T23:30:00Z", Land::Nationwide, "2026-04-10T21:59:59Z");
    }
}
