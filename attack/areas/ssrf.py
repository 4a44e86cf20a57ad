NEEDS_NETWORK = True
NAMES = ()
async def attack(field, notes): pass
