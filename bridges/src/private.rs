//! Addresses that a server named by somebody else must not be at: this host, its network, and what is no one's.
//!
//! Asked of the address that is connected to, not of a name: `127.1`, `0x7f000001`, `2130706433` and a name that resolves to
//! something else each time are all asked by what they turn out to be. An IPv6 address that carries an IPv4 address is asked
//! by that.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

/// An address that is not to be connected to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{address} is {what}")]
pub struct Private {
    /// Which.
    pub address: IpAddr,
    /// What it is.
    pub what: &'static str,
}

/// A block of addresses: `10.0.0.0/8`, `fd00::/8`, or one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block {
    base: IpAddr,
    bits: u8,
}

/// Why a text is no block of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected an IP address, or a block of them such as 10.0.0.0/8, whose further bits are 0")]
pub struct BlockError;

/// Blocks of IPv4 that are not of the public internet (IANA's registry of special addresses).
const V4: [(Ipv4Addr, u8, &str); 15] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8, "this host"),
    (Ipv4Addr::new(10, 0, 0, 0), 8, "private"),
    (Ipv4Addr::new(100, 64, 0, 0), 10, "of a carrier's network"),
    (Ipv4Addr::new(127, 0, 0, 0), 8, "loopback"),
    (Ipv4Addr::new(169, 254, 0, 0), 16, "link-local"),
    (Ipv4Addr::new(172, 16, 0, 0), 12, "private"),
    (Ipv4Addr::new(192, 0, 0, 0), 24, "reserved"),
    (Ipv4Addr::new(192, 0, 2, 0), 24, "reserved"),
    (Ipv4Addr::new(192, 88, 99, 0), 24, "reserved"),
    (Ipv4Addr::new(192, 168, 0, 0), 16, "private"),
    (Ipv4Addr::new(198, 18, 0, 0), 15, "reserved"),
    (Ipv4Addr::new(198, 51, 100, 0), 24, "reserved"),
    (Ipv4Addr::new(203, 0, 113, 0), 24, "reserved"),
    (Ipv4Addr::new(224, 0, 0, 0), 4, "multicast"),
    (Ipv4Addr::new(240, 0, 0, 0), 4, "reserved"),
];
/// Of IPv6, where not all of it is outside of 2000::/3, which alone is public.
const V6: [(Ipv6Addr, u8, &str); 10] = [
    (Ipv6Addr::UNSPECIFIED, 128, "this host"),
    (Ipv6Addr::LOCALHOST, 128, "loopback"),
    (Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7, "private"),
    (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10, "link-local"),
    (Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 0), 10, "private"),
    (Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8, "multicast"),
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23, "reserved"),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32, "reserved"),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20, "reserved"),
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16, "reserved"),
];

/// Passes an address of the public internet, and one in a block of `allowed`.
pub fn check(address: IpAddr, allowed: &[Block]) -> Result<(), Private> {
    let plain = carried(address);
    if allowed.iter().any(|block| block.contains(address) || block.contains(plain)) {
        return Ok(());
    }
    what(plain).map_or(Ok(()), |what| Err(Private { address, what }))
}

/// The IPv4 address in an IPv6 address, if it carries one: mapped, of a NAT64 (RFC 6052), or compatible.
fn carried(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else { return address };
    let [.., a, b] = v6.segments();
    let [a, b, c, d] = [a.to_be_bytes(), b.to_be_bytes()].concat()[..] else { return address };
    let v4 = IpAddr::V4(Ipv4Addr::new(a, b, c, d));
    match v6.segments() {
        [0, 0, 0, 0, 0, 0xffff, ..] | [0x64, 0xff9b, 0, 0, 0, 0, ..] => v4,
        // ::1 and :: are no IPv4 addresses
        [0, 0, 0, 0, 0, 0, high, low] if high != 0 || low > 1 => v4,
        _ => address,
    }
}

fn what(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(v4) => {
            V4.iter().find(|(base, bits, _)| same(v4.to_bits().into(), base.to_bits().into(), 32, *bits)).map(|of| of.2)
        }
        IpAddr::V6(v6) => {
            let named = V6.iter().find(|(base, bits, _)| same(v6.to_bits(), base.to_bits(), 128, *bits));
            named.map(|of| of.2).or((v6.segments()[0] & 0xe000 != 0x2000).then_some("reserved"))
        }
    }
}

/// Whether the first `bits` of `width` are the same.
fn same(a: u128, b: u128, width: u8, bits: u8) -> bool {
    bits == 0 || (a ^ b) >> (width - bits) == 0
}

/// Whether a server that the config names may be at this address: at the very one that it names, at loopback if it names that,
/// or wherever a name leads that is not of a network behind this host.
pub(crate) fn check_named(host: &str, address: IpAddr, allowed: &[Block]) -> Result<(), Private> {
    let named = host.parse() == Ok(address) || (host == "localhost" && address.is_loopback());
    if named { Ok(()) } else { check(address, allowed) }
}

/// Whether a host is this one by what the config says.
pub(crate) fn is_here(host: &str) -> bool {
    host == "localhost" || host.parse().is_ok_and(|address: IpAddr| address.to_canonical().is_loopback())
}

// === impl Block ===

impl Block {
    /// Whether the address is in it. An IPv4 block has no IPv6 addresses, nor the other way around.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.base, address) {
            (IpAddr::V4(base), IpAddr::V4(v4)) => same(base.to_bits().into(), v4.to_bits().into(), 32, self.bits),
            (IpAddr::V6(base), IpAddr::V6(v6)) => same(base.to_bits(), v6.to_bits(), 128, self.bits),
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

impl FromStr for Block {
    type Err = BlockError;

    fn from_str(text: &str) -> Result<Self, BlockError> {
        let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let base: IpAddr = address.parse().map_err(|_| BlockError)?;
        let (width, value) = match base {
            IpAddr::V4(v4) => (32, v4.to_bits().into()),
            IpAddr::V6(v6) => (128, v6.to_bits()),
        };
        let bits = match bits {
            Some(bits) if bits.bytes().all(|byte| byte.is_ascii_digit()) => bits.parse().map_err(|_| BlockError)?,
            Some(_) => return Err(BlockError),
            None => width,
        };
        let rest = |bits: u8| 1_u128.checked_shl((width - bits).into()).map_or(u128::MAX, |past| past - 1);
        if bits > width || value & rest(bits) != 0 {
            return Err(BlockError);
        }
        Ok(Self { base, bits })
    }
}

impl fmt::Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_public(address: &str) -> bool {
        check(address.parse().unwrap(), &[]).is_ok()
    }

    #[test]
    fn what_is_not_of_the_internet_is_refused() {
        for address in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.255.254",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.0.2.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.7",
            "203.0.113.9",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::2",
            "::127.0.0.1",
            "::ffff:127.0.0.1",
            "::ffff:10.1.2.3",
            "64:ff9b::7f00:1",
            "64:ff9b::10.0.0.1",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "3fff::1",
            "fc00::1",
            "fd12:3456::1",
            "fe80::1",
            "febf::1",
            "fec0::1",
            "ff02::1",
            "5f00::1",
            "4000::1",
        ] {
            assert!(!is_public(address), "{address}");
        }
    }

    #[test]
    fn what_is_of_the_internet_passes() {
        for address in [
            "1.1.1.1",
            "9.255.255.255",
            "11.0.0.1",
            "100.63.255.255",
            "100.128.0.1",
            "126.0.0.1",
            "128.0.0.1",
            "172.15.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "198.17.0.1",
            "198.20.0.1",
            "223.255.255.255",
            "2606:4700::1111",
            "2a00::1",
            "::ffff:1.1.1.1",
            "64:ff9b::1.1.1.1",
        ] {
            assert!(is_public(address), "{address}");
        }
    }

    #[test]
    fn what_is_allowed_passes_however_it_is_written() {
        let allowed = ["10.1.0.0/16".parse().unwrap(), "fd00::/8".parse().unwrap(), "127.0.0.1".parse().unwrap()];
        let may = |address: &str| check(address.parse().unwrap(), &allowed).is_ok();
        assert!(may("10.1.2.3") && may("::ffff:10.1.2.3") && may("fd00::7") && may("127.0.0.1"));
        assert!(!may("10.2.0.1") && !may("127.0.0.2") && !may("fc00::1") && !may("169.254.169.254"));
        let refused = check("::ffff:10.2.0.1".parse().unwrap(), &allowed).unwrap_err();
        assert_eq!(refused.to_string(), "::ffff:10.2.0.1 is private");
    }

    #[test]
    fn a_block_is_written_in_one_way() {
        for text in ["10.0.0.0/8", "0.0.0.0/0", "::/0", "fd00::/8", "1.2.3.4/32", "::1/128"] {
            assert_eq!(text.parse::<Block>().map(|block| block.to_string()).as_deref(), Ok(text));
        }
        for text in
            ["", "10.0.0.0/33", "10.0.0.1/8", "::1/127", "10.0.0/8", "10.0.0.0/", "10.0.0.0/+8", "a/8", "0x7f.1"]
        {
            assert_eq!(text.parse::<Block>(), Err(BlockError), "{text}");
        }
    }
}
