//! Numbers: text to number (E2) and number to text (E5).

/// What a text is worth as a number: 0 when empty, NaN when it is none.
pub(super) fn parse(text: &str) -> f64 {
    let text = text.trim();
    if text.is_empty() {
        return 0.0;
    }
    if text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-')) {
        return text.parse().unwrap_or(f64::NAN);
    }
    if let Some(digits) = text.strip_prefix("0x") {
        return int32(digits, 16);
    }
    if let Some(digits) = text.strip_prefix("0o") {
        return int32(digits, 8);
    }
    match text {
        "Infinity" | "+Infinity" => f64::INFINITY,
        "-Infinity" => f64::NEG_INFINITY,
        _ => f64::NAN,
    }
}

/// Digits of at most 32 bits, taken as a signed number, as .NET does: 0xFFFFFFFF is -1.
fn int32(digits: &str, radix: u32) -> f64 {
    if digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
        return f64::NAN;
    }
    let significant = digits.trim_start_matches('0');
    if significant.is_empty() {
        return 0.0;
    }
    u32::from_str_radix(significant, radix).map_or(f64::NAN, |bits| f64::from(bits.cast_signed()))
}

/// .NET's `G15` in the invariant culture: fifteen significant digits, an exponent from 1E+15 and up to 1E-05.
pub(super) fn format(number: f64) -> String {
    if number.is_nan() {
        return "NaN".to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 { "Infinity" } else { "-Infinity" }.to_owned();
    }
    if number == 0.0 {
        return "0".to_owned();
    }
    let scientific = format!("{number:.14e}");
    let (mantissa, exponent) = scientific.split_once('e').expect("the e format always writes an exponent");
    let exponent: i32 = exponent.parse().expect("the e format writes the exponent as an integer");
    let (sign, mantissa) = mantissa.strip_prefix('-').map_or(("", mantissa), |rest| ("-", rest));
    let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    let digits = digits.trim_end_matches('0');
    if !(-5 < exponent && exponent < 15) {
        let (first, rest) = digits.split_at(1);
        let point = if rest.is_empty() { "" } else { "." };
        let exponent_sign = if exponent < 0 { '-' } else { '+' };
        return format!("{sign}{first}{point}{rest}E{exponent_sign}{:02}", exponent.abs());
    }
    if exponent < 0 {
        let zeros = "0".repeat(usize::try_from(-exponent - 1).expect("the exponent is negative and above -5"));
        return format!("{sign}0.{zeros}{digits}");
    }
    let whole = usize::try_from(exponent).expect("the exponent is not negative") + 1;
    if digits.len() <= whole {
        format!("{sign}{digits}{}", "0".repeat(whole - digits.len()))
    } else {
        format!("{sign}{}.{}", &digits[..whole], &digits[whole..])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_to_number() {
        for (text, number) in [
            ("", 0.0),
            (" \t", 0.0),
            ("12", 12.0),
            (" -1.5 ", -1.5),
            ("1e3", 1000.0),
            (".5", 0.5),
            ("5.", 5.0),
            ("1e999", f64::INFINITY),
            ("0xff", 255.0),
            ("0xFFFFFFFF", -1.0),
            ("0x7fffffff", 2_147_483_647.0),
            ("0x00000000001", 1.0),
            ("0o17", 15.0),
            ("0o37777777777", -1.0),
            ("Infinity", f64::INFINITY),
            ("-Infinity", f64::NEG_INFINITY),
        ] {
            assert_eq!(parse(text).to_bits(), number.to_bits(), "{text:?}");
        }
        for text in
            ["abc", "1_0", "-0x1", "0x", "0xg", "0x100000000", "0o8", "inf", "nan", "NaN", ".", "-", "1e", "1 2"]
        {
            assert!(parse(text).is_nan(), "{text:?}");
        }
    }

    #[test]
    fn number_to_text() {
        for (number, text) in [
            (0.0, "0"),
            (-0.0, "0"),
            (3.0, "3"),
            (-2.5, "-2.5"),
            (100.0, "100"),
            (0.1, "0.1"),
            (0.1 + 0.2, "0.3"),
            (0.000_1, "0.0001"),
            (0.000_01, "1E-05"),
            (0.000_012_5, "1.25E-05"),
            (1e14, "100000000000000"),
            (1e15, "1E+15"),
            (123_456_789_012_345.0, "123456789012345"),
            (1_234_567_890_123_456.0, "1.23456789012346E+15"),
            (12_345_678_901_234_567_890.0, "1.23456789012346E+19"),
            (-1e100, "-1E+100"),
            (f64::MAX, "1.79769313486232E+308"),
            (f64::MIN_POSITIVE, "2.2250738585072E-308"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "-Infinity"),
        ] {
            assert_eq!(format(number), text);
        }
    }
}
