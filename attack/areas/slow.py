NEEDS_NETWORK = True


async def attack(field, notes):
    pass
