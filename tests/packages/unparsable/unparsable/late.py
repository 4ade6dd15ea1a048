def scale(value):
<<<<<<< HEAD
    return 2 * value
=======
    return 3 * value
>>>>>>> 0123456 (another factor)
