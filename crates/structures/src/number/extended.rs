use num_bigint::{BigInt, BigUint, Sign};

/// Digits that Redis reads of a long double: its buffer's size.
const TEXT_MAX: usize = 5 * 1024 - 1;
/// Bits of the mantissa of x87's format of 80 bits.
const MANTISSA_BITS: u64 = 64;
/// Numbers from 2 to this power on are infinite.
const EXPONENT_MAX: i64 = 16_384;
/// Numbers below 2 to this power are zero.
const EXPONENT_MIN: i64 = -16_446;

/// A number in x87's extended precision, which `long double` is to Redis on x86: `INCRBYFLOAT` shows its digits.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Extended {
    /// The mantissa, of 64 bits at most, times 2 to the power.
    Finite(BigInt, i64),
    /// Plus infinity if true.
    Infinite(bool),
    /// No number: the sum of two infinities.
    Nan,
}

impl Extended {
    /// As `strtold` reads it, all of it; `None` for anything else, as for numbers that are too large or too small.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        if bytes.len() > TEXT_MAX {
            return None;
        }
        let number = parse_hexadecimal(bytes).or_else(|| parse_decimal(bytes))?;
        if let Self::Infinite(_) = number
            && !bytes.iter().any(|byte| byte.eq_ignore_ascii_case(&b'n'))
        {
            return None;
        }
        Some(number)
    }

    /// Whether it is neither infinite nor no number.
    pub(crate) fn is_finite(&self) -> bool {
        matches!(self, Self::Finite(..))
    }

    /// The sum, rounded to 64 bits, to even.
    pub(super) fn add(self, other: Self) -> Self {
        match (self, other) {
            (Self::Finite(first, first_power), Self::Finite(second, second_power)) => {
                let power = first_power.min(second_power);
                let aligned = |mantissa: BigInt, own: i64| mantissa << (own - power).unsigned_abs();
                rounded(aligned(first, first_power) + aligned(second, second_power), power, false)
            }
            (Self::Infinite(first), Self::Infinite(second)) if first != second => Self::Nan,
            (Self::Nan, _) | (_, Self::Nan) => Self::Nan,
            (Self::Infinite(sign), _) | (_, Self::Infinite(sign)) => Self::Infinite(sign),
        }
    }

    /// Written with 17 digits after the point, less the zeros at the end; `None` if it is not finite.
    pub(super) fn to_text(&self) -> Option<String> {
        let Self::Finite(mantissa, power) = self else { return None };
        let scaled = mantissa.magnitude() * BigUint::from(10_u8).pow(17);
        let digits = match u64::try_from(*power) {
            Ok(power) => scaled << power,
            Err(_) => shifted_to_even(scaled, power.unsigned_abs(), false),
        };
        let digits = format!("{digits:0>18}");
        let (whole, fraction) = digits.split_at(digits.len() - 17);
        let text = format!("{whole}.{fraction}");
        let text = super::without_zeros(&text);
        let is_negative = mantissa.sign() == Sign::Minus && text != "0";
        Some(if is_negative { format!("-{text}") } else { text.to_string() })
    }

    /// The nearest double.
    pub(crate) fn to_double(&self) -> f64 {
        match self {
            Self::Finite(mantissa, power) => {
                let magnitude = u64::try_from(mantissa.magnitude()).unwrap_or(u64::MAX) as f64;
                let signed = if mantissa.sign() == Sign::Minus { -magnitude } else { magnitude };
                // In two steps: 2 to the power of a subnormal's exponent is no double.
                let half = i32::try_from(power / 2).unwrap_or(0);
                let rest = i32::try_from(power - power / 2).unwrap_or(0);
                signed * 2_f64.powi(half) * 2_f64.powi(rest)
            }
            Self::Infinite(true) => f64::INFINITY,
            Self::Infinite(false) => f64::NEG_INFINITY,
            Self::Nan => f64::NAN,
        }
    }
}

/// `mantissa` times 2 to the power, rounded to 64 bits. `has_more`: the true number lies a little farther from zero.
fn rounded(mantissa: BigInt, power: i64, has_more: bool) -> Extended {
    let (sign, mut magnitude) = mantissa.into_parts();
    let mut power = power;
    let excess = magnitude.bits().saturating_sub(MANTISSA_BITS);
    if excess > 0 {
        magnitude = shifted_to_even(magnitude, excess, has_more);
        power += excess as i64;
    }
    let size = magnitude.bits() as i64 + power;
    if size > EXPONENT_MAX {
        return Extended::Infinite(sign != Sign::Minus);
    }
    if size <= EXPONENT_MIN {
        return Extended::Finite(BigInt::ZERO, 0);
    }
    Extended::Finite(BigInt::from_biguint(sign, magnitude), power)
}

/// The magnitude without its last bits, rounded to the nearest, in the middle to even.
fn shifted_to_even(magnitude: BigUint, bits: u64, has_more: bool) -> BigUint {
    if bits > magnitude.bits() + 1 {
        return BigUint::ZERO;
    }
    let is_half_set = magnitude.bit(bits - 1);
    let is_above_half = has_more || magnitude.trailing_zeros().is_some_and(|zeros| zeros < bits - 1);
    let kept = magnitude >> bits;
    let is_odd = kept.bit(0);
    if is_half_set && (is_above_half || is_odd) { kept + 1_u8 } else { kept }
}

/// The sign in front, true for a minus, and what follows.
fn split_sign(bytes: &[u8]) -> (bool, &[u8]) {
    match bytes.split_first() {
        Some((b'-', rest)) => (true, rest),
        Some((b'+', rest)) => (false, rest),
        _ => (false, bytes),
    }
}

/// What stands before a letter of either case, and what after it as an exponent; bounded, as more is out of any range.
fn split_exponent(bytes: &[u8], letter: u8) -> Option<(&[u8], i64)> {
    let Some(position) = bytes.iter().position(|byte| byte.eq_ignore_ascii_case(&letter)) else {
        return Some((bytes, 0));
    };
    let (is_negative, digits) = split_sign(&bytes[position + 1..]);
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let exponent = digits
        .iter()
        .fold(0_i64, |value, digit| value.saturating_mul(10).saturating_add(i64::from(digit - b'0')))
        .min(1_000_000_000);
    Some((&bytes[..position], if is_negative { -exponent } else { exponent }))
}

/// The digits around the point, at least one, and how many follow it.
fn split_point(bytes: &[u8]) -> Option<(Vec<u8>, i64)> {
    let mut parts = bytes.splitn(2, |byte| *byte == b'.');
    let whole = parts.next().unwrap_or_default();
    let fraction = parts.next().unwrap_or_default();
    let digits = [whole, fraction].concat();
    if digits.is_empty() { None } else { Some((digits, fraction.len() as i64)) }
}

fn parse_decimal(bytes: &[u8]) -> Option<Extended> {
    let (is_negative, rest) = split_sign(bytes);
    if rest.eq_ignore_ascii_case(b"inf") || rest.eq_ignore_ascii_case(b"infinity") {
        return Some(Extended::Infinite(!is_negative));
    }
    let (mantissa, exponent) = split_exponent(rest, b'e')?;
    let (digits, decimals) = split_point(mantissa)?;
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digits = BigUint::parse_bytes(&digits, 10)?;
    if digits == BigUint::ZERO {
        return Some(Extended::Finite(BigInt::ZERO, 0));
    }
    let exponent = exponent - decimals;
    if exponent > EXPONENT_MAX {
        return Some(Extended::Infinite(!is_negative));
    }
    if exponent < EXPONENT_MIN - TEXT_MAX as i64 {
        return None;
    }
    let number = from_decimal(is_negative, digits, exponent);
    // Too small to be other than zero.
    if number == Extended::Finite(BigInt::ZERO, 0) { None } else { Some(number) }
}

/// `digits` times 10 to the power of `exponent`, rounded.
fn from_decimal(is_negative: bool, digits: BigUint, exponent: i64) -> Extended {
    let sign = if is_negative { Sign::Minus } else { Sign::Plus };
    let scale = BigUint::from(10_u8).pow(u32::try_from(exponent.unsigned_abs()).unwrap_or(u32::MAX));
    if exponent >= 0 {
        return rounded(BigInt::from_biguint(sign, digits * scale), 0, false);
    }
    // Enough bits that the quotient has more than a mantissa's.
    let shift = (scale.bits() + MANTISSA_BITS + 2).saturating_sub(digits.bits());
    let dividend = digits << shift;
    let quotient = &dividend / &scale;
    let has_more = quotient.clone() * scale != dividend;
    rounded(BigInt::from_biguint(sign, quotient), -(shift as i64), has_more)
}

/// A number such as `0x1.8p3`; `None` if it is none.
pub(super) fn parse_hexadecimal(bytes: &[u8]) -> Option<Extended> {
    let (is_negative, rest) = split_sign(bytes);
    let rest = rest.strip_prefix(b"0x").or_else(|| rest.strip_prefix(b"0X"))?;
    let (mantissa, exponent) = split_exponent(rest, b'p')?;
    let (digits, decimals) = split_point(mantissa)?;
    if !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let magnitude = BigUint::parse_bytes(&digits, 16)?;
    let sign = if is_negative { Sign::Minus } else { Sign::Plus };
    if magnitude == BigUint::ZERO {
        return Some(Extended::Finite(BigInt::ZERO, 0));
    }
    Some(rounded(BigInt::from_biguint(sign, magnitude), exponent - 4 * decimals, false))
}
