"""Whether AES runs on the CPU's own instructions or on tables in memory.

Tables tell the key, through the cache, to whoever shares the CPU: in an enclave that is the host.
A library decides once, by what CPUID says, and in an enclave CPUID is the host's word. A lie that
instructions are missing is what this module finds. A lie that they are there ends the process at
the first of them and tells nothing.

Asking Mbed TLS also fixes its answer, which it otherwise finds out anew while threads race
(CVE-2025-52496): so ask before there are threads.
"""

from __future__ import annotations

import _ssl
import ctypes
import os
import re
from typing import Final

from cryptography.hazmat.bindings.openssl.binding import Binding
from mbedtls import mpi

VARIABLE: Final = "OPENSSL_ia32cap"
"""What OpenSSL takes instead of CPUID; the image's environment, which is measured, has it."""

_BITS: Final = {"PCLMULQDQ": 33, "SSSE3": 41, "AES-NI": 57}
"""In the first 64 bits of OpenSSL's capabilities. Without one of them it may use tables."""

_CPU_INFO: Final = 9  # OPENSSL_CPU_INFO of OpenSSL 3.0 and later
_VECTOR: Final = re.compile(rb"OPENSSL_ia32cap=0x([0-9a-fA-F]+)")
_MBEDTLS_FLAGS: Final = {"AES-NI": 0x02000000, "PCLMULQDQ": 0x00000002}


def aes_problems(tls_library: str) -> dict[str, str]:
    """Gives `insecure_table_driven_aes` with what to do, where a library may use tables.

    Args:
        tls_library: one of `app.config.TLS_LIBRARIES`; bundles are always decrypted by
            `cryptography`.
    """
    libraries = table_driven(tls_library)
    if not libraries:
        return {}
    return {
        "insecure_table_driven_aes": f"{', '.join(libraries)} may run AES on tables, as CPUID "
        "reports no AES-NI, PCLMULQDQ or SSSE3; use a CPU that has them, and leave "
        f"{VARIABLE} as the image's build sets it"
    }


def table_driven(tls_library: str) -> tuple[str, ...]:
    """Names the libraries in use whose AES or GCM may run on tables."""
    decides = {"cryptography": has_instructions(_vector_of_cryptography())}
    if tls_library == "openssl":
        decides["ssl"] = has_instructions(_vector_of_ssl())
    else:
        decides["mbedtls"] = _mbedtls_has_instructions()
    return tuple(name for name, has in decides.items() if not has)


def has_instructions(cpu_info: bytes) -> bool:
    """Whether OpenSSL's text about the CPU, or the variable's assignment, has all of `_BITS`."""
    found = _VECTOR.search(cpu_info)
    vector = int(found.group(1), 16) if found else 0
    return all(vector >> bit & 1 for bit in _BITS.values())


def _vector_of_cryptography() -> bytes:
    binding = Binding()
    text: bytes = binding.ffi.string(binding.lib.OpenSSL_version(_CPU_INFO))
    return text


def _vector_of_ssl() -> bytes:
    """Asks the interpreter's own OpenSSL; where that can't be reached, what it must have taken."""
    try:
        version = ctypes.CDLL(getattr(_ssl, "__file__", None)).OpenSSL_version
    except AttributeError:
        return f"{VARIABLE}={os.environ.get(VARIABLE, '')}".encode()
    version.restype = ctypes.c_char_p
    text: bytes = version(_CPU_INFO)
    return text


def _mbedtls_has_instructions() -> bool:
    has = ctypes.CDLL(mpi.__file__).mbedtls_aesni_has_support
    return all(has(ctypes.c_uint(flag)) for flag in _MBEDTLS_FLAGS.values())
