"""Routes torch's ``scaled_dot_product_attention`` to SageAttention where that is right and faster, and only there.

It runs in the target: the standard library and torch, Python 3.9, nothing else of sagefix. ``sagefix attention
install`` puts it there, together with what is known of the installation (:mod:`sagefix.attention.facts`).

    from sagefix import attention

    print(attention.enable())        # for the whole process, until disable()
    with attention.enabled():        # for the whole process, until the block ends
        ...
    print(attention.status())        # what went where, and why

Everything that is not routed goes to the function that was there before, with the arguments it was called with.
"""

from sagefix.attention.patching import Status, disable, enable, enabled, status

__all__ = ["Status", "disable", "enable", "enabled", "status"]
