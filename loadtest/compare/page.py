def write(document, folder, programs):
    return []
