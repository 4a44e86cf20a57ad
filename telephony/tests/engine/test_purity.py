"""The engine needs nothing but the standard library."""

import subprocess
import sys


def test_the_engine_imports_neither_django_nor_a_socket():
    code = (
        "import sys, telephony.engine.session, telephony.engine.twilio_codec\n"
        "foreign = {'django', 'socket', 'asyncio', 'picows', 'orjson'} & set(sys.modules)\n"
        "assert not foreign, foreign"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
