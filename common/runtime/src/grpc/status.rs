//! Details of a gRPC status: `google.rpc.Status` in `grpc-status-details-bin`, written and read without its types.
//!
//! Only its three fields are known (code 1, message 2, details 3 of `google.protobuf.Any`: type_url 1, value 2).

use tonic::{Code, Status};

const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const BYTES: u64 = 2;
const FIXED32: u64 = 5;

/// A status with one detail, given as the type URL and the encoded message of an Any.
pub fn with_detail(code: Code, message: impl Into<String>, type_url: &str, value: &[u8]) -> Status {
    let message = message.into();
    let mut any = Vec::with_capacity(type_url.len() + value.len() + 8);
    put_bytes(&mut any, 1, type_url.as_bytes());
    put_bytes(&mut any, 2, value);
    let mut status = Vec::with_capacity(message.len() + any.len() + 16);
    put_varint(&mut status, 1 << 3);
    put_varint(&mut status, u64::from((code as i32).unsigned_abs()));
    put_bytes(&mut status, 2, message.as_bytes());
    put_bytes(&mut status, 3, &any);
    Status::with_details(code, message, status.into())
}

/// The encoded message of the first detail with this type URL (compared after its last `/`); none when the details
/// are absent or no valid message.
pub fn detail(status: &Status, type_url: &str) -> Option<Vec<u8>> {
    let wanted = message_name(type_url);
    let mut found = None;
    each_field(status.details(), |number, value| {
        if number == 3 && found.is_none() {
            found = any_value(value, wanted);
        }
    })?;
    found
}

fn message_name(type_url: &str) -> &str {
    type_url.rsplit('/').next().unwrap_or(type_url)
}

fn any_value(any: &[u8], wanted: &str) -> Option<Vec<u8>> {
    let (mut matches, mut content) = (false, Vec::new());
    each_field(any, |number, value| match number {
        1 => matches = std::str::from_utf8(value).is_ok_and(|url| message_name(url) == wanted),
        2 => content = value.to_vec(),
        _ => {}
    })?;
    matches.then_some(content)
}

/// Calls `see` with each length-delimited field; none when the bytes are no message.
fn each_field<'a>(mut rest: &'a [u8], mut see: impl FnMut(u64, &'a [u8])) -> Option<()> {
    while !rest.is_empty() {
        let key = take_varint(&mut rest)?;
        match key & 7 {
            VARINT => drop(take_varint(&mut rest)?),
            FIXED64 => drop(take(&mut rest, 8)?),
            FIXED32 => drop(take(&mut rest, 4)?),
            BYTES => {
                let length = usize::try_from(take_varint(&mut rest)?).ok()?;
                see(key >> 3, take(&mut rest, length)?);
            }
            _ => return None,
        }
    }
    Some(())
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(length)?;
    *rest = left;
    Some(taken)
}

fn take_varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (&byte, left) = rest.split_first()?;
        *rest = left;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn put_bytes(out: &mut Vec<u8>, number: u64, value: &[u8]) {
    put_varint(out, number << 3 | BYTES);
    put_varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    loop {
        let low = u8::try_from(value & 0x7f).unwrap_or(0);
        value >>= 7;
        if value == 0 {
            out.push(low);
            return;
        }
        out.push(low | 0x80);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const URL: &str = "type.googleapis.com/spire.api.types.PermissionDeniedDetails";

    #[test]
    fn a_detail_survives_the_way_there_and_back() {
        let status = with_detail(Code::PermissionDenied, "agent is not active", URL, &[8, 3]);
        assert_eq!(
            (status.code(), status.message()),
            (Code::PermissionDenied, "agent is not active")
        );
        assert_eq!(detail(&status, URL), Some(vec![8, 3]));
        assert_eq!(
            detail(&status, "spire.api.types.PermissionDeniedDetails"),
            Some(vec![8, 3])
        );
        assert_eq!(detail(&status, "other.Message"), None);
        assert_eq!(detail(&Status::new(Code::Ok, ""), URL), None);
    }

    #[test]
    fn the_bytes_are_those_of_google_rpc_status() {
        let status = with_detail(Code::PermissionDenied, "no", "t/x", &[8, 3]);
        assert_eq!(
            status.details(),
            b"\x08\x07\x12\x02no\x1a\x09\x0a\x03t/x\x12\x02\x08\x03"
        );
    }

    #[test]
    fn long_values_and_cut_bytes() {
        let value = vec![7; 300];
        let status = with_detail(Code::Internal, "m".repeat(200), URL, &value);
        assert_eq!(detail(&status, URL), Some(value));
        let whole = status.details().to_vec();
        for cut in 1..whole.len() {
            let torn = Status::with_details(Code::Internal, "", whole[..cut].to_vec().into());
            assert_eq!(detail(&torn, URL), None, "cut at {cut}");
        }
        for junk in [&[0xff; 20][..], &[0x1a, 0xff, 0xff, 0xff, 0xff, 0x0f], &[0x0b]] {
            let torn = Status::with_details(Code::Internal, "", junk.to_vec().into());
            assert_eq!(detail(&torn, URL), None);
        }
    }
}
