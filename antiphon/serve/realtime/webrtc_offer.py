"""What a caller's SDP offer must have before anything is kept for it, and which of its addresses are tried.

A caller writes into its offer where packets are to be sent to. Of these addresses the private ones are dropped, unless
a setting says otherwise: else anyone who may call could have the server knock on doors inside of its network. Calls
from the same machine or network go well without: the caller tries our addresses, and shows by that where it is.
"""

from __future__ import annotations

import ipaddress
import re

from aiortc.sdp import MediaDescription, SessionDescription, candidate_from_sdp

from antiphon.serve.errors import RequestError

MAX_CANDIDATES = 16  # addresses of a client that are tried
CANDIDATE, END = "a=candidate:", "a=end-of-candidates"
FINGERPRINTS = {"sha-256": 32, "sha-384": 48, "sha-512": 64}  # bytes
MIN_PORT = 1024  # no browser, and no address translation, has a call on one below
MIN_MESSAGE_BYTES = 16 * 1024  # that a data channel must take


def bad_offer(why: str = "This is no SDP offer that can be answered.") -> RequestError:
    """An SDP offer that no call can be made of."""
    return RequestError("invalid_offer", why, "sdp")


def checked(offer: str, private: bool = False) -> str:
    """An offer that can be answered, without the addresses that aren't tried.

    Args:
        offer: the client's SDP.
        private: try private and loopback addresses, too.

    Raises:
        RequestError: it isn't one, lacks what a call needs, or offers more than an audio track and a data channel.
    """
    try:
        described = SessionDescription.parse(offer)
        tried = _tried(offer.splitlines(), private)
    except Exception as error:  # whatever aiortc stumbles over
        raise bad_offer() from error
    kinds = sorted(media.kind for media in described.media)
    if kinds not in (["application"], ["audio"], ["application", "audio"]):
        raise bad_offer("Offer one audio track and one data channel, and nothing else.")
    mids = [media.rtp.muxId for media in described.media]
    bundled = {mid for group in described.group if group.semantic == "BUNDLE" for mid in group.items}
    if len(set(mids)) < len(mids) or not bundled <= set(mids):
        raise bad_offer("Each medium of an offer has an a=mid of its own, and a=group:BUNDLE names no others.")
    for media in described.media:
        problem = _problem(media)
        if problem is not None:
            raise bad_offer(f"The offer's m={media.kind} {problem}.")
    return "\r\n".join(tried) + "\r\n"


def _problem(media: MediaDescription) -> str | None:
    """What a medium lacks, if anything."""
    if media.dtls is None:
        return "has no a=setup"
    known = [each for each in media.dtls.fingerprints if each.algorithm.lower() in FINGERPRINTS]
    if not known:
        return f"has no a=fingerprint of {', '.join(FINGERPRINTS)}"
    for each in known:
        more = FINGERPRINTS[each.algorithm.lower()] - 1
        if not re.fullmatch(rf"[0-9A-Fa-f]{{2}}(:[0-9A-Fa-f]{{2}}){{{more}}}", each.value):
            return f"has an a=fingerprint that is no {each.algorithm.lower()}"
    for name, value, min_letters in (("ufrag", media.ice.usernameFragment, 4), ("pwd", media.ice.password, 22)):
        if not re.fullmatch(rf"[A-Za-z0-9+/]{{{min_letters},256}}", value or ""):
            return f"has no a=ice-{name} of {min_letters} to 256 letters"
    if any(not 0 < each.id < 256 for each in media.rtp.headerExtensions):
        return "has an a=extmap whose number isn't 1 to 255"
    if media.kind == "application":
        legacy = media.profile == "DTLS/SCTP"
        port = media.fmt[0] if legacy else media.sctp_port
        if not str(port).isdecimal() or not 0 < int(port) < 65536:
            return "has no a=sctp-port"
        size = 0 if media.sctpCapabilities is None else media.sctpCapabilities.maxMessageSize  # 0: any
        if size and size < MIN_MESSAGE_BYTES:
            return f"has an a=max-message-size below {MIN_MESSAGE_BYTES}"
    return None


def _tried(lines: list[str], private: bool) -> list[str]:
    """The lines of an offer without the candidates that aren't tried, and without the end of them: the client's own
    packets show more."""
    kept, count = [], 0
    for line in lines:
        if line.startswith(END):
            continue
        if line.startswith(CANDIDATE):
            candidate = candidate_from_sdp(line.removeprefix(CANDIDATE))
            if count == MAX_CANDIDATES or not _may_try(candidate.ip, candidate.port, private):
                continue
            count += 1
        kept.append(line)
    return kept


def _may_try(address: str, port: int, private: bool) -> bool:
    """A name is none: a browser hides its addresses behind one that is known in its network alone."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    if ip.is_multicast or ip.is_unspecified or port < MIN_PORT:
        return False
    if private:
        return True
    if isinstance(ip, ipaddress.IPv6Address) and _inside(ip):
        return False
    return ip.is_global


def _inside(ip: ipaddress.IPv6Address) -> bool:
    """An IPv6 address that stands for one of IPv4, which may be any."""
    return bool(ip.ipv4_mapped or ip.sixtofour or ip.teredo) or ip in ipaddress.ip_network("64:ff9b::/96")
