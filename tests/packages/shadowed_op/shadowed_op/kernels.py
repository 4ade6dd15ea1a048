from . import library


@library.custom_op("shadowed::double")
def double(value):
    return 2 * value


@library.register_fake("shadowed::double")
def double_fake(value):
    return None


@library.custom_op("shadowed::triple")
def triple(value):
    return 3 * value


@library.register_fake("shadowed::triple")
def triple(value):  # noqa: F811
    return None
