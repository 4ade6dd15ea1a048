def main():
    print("tiny")
